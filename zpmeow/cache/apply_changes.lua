-- Apply a batch of changes and move the position, as one step, if the position is the expected one.
--
-- KEYS[1]      the position's key
-- KEYS[2...]   the keys of the fences
-- ARGV[1]      the expected position; empty: there is none
-- ARGV[2]      the new position
-- ARGV[3]      the fences' lifetime in milliseconds
-- ARGV[4]      the largest size that an envelope can have
-- ARGV[5...]   the fences' envelopes
-- returns      1 done, 0 another position stands there

local found = redis.pcall('GET', KEYS[1])
if type(found) == 'table' then -- WRONGTYPE: no position of ours.
  redis.call('DEL', KEYS[1])
  found = false
end
if (found or '') ~= ARGV[1] then
  return 0
end

local lifetime_ms, max_bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
for number = 2, #KEYS do
  put_if_newer(KEYS[number], ARGV[number + 3], lifetime_ms, false, max_bytes)
end
-- The last, so that a server that has no room for a fence does not move on.
redis.call('SET', KEYS[1], ARGV[2])
return 1

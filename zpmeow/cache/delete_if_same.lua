-- Remove a key if exactly these bytes stand there.
--
-- KEYS[1]  the key
-- ARGV[1]  the bytes
-- returns  1 removed, 0 left alone (other bytes, another type, nothing)

if redis.pcall('STRLEN', KEYS[1]) ~= #ARGV[1] then -- Also unequal if the answer is an error (WRONGTYPE).
  return 0
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])

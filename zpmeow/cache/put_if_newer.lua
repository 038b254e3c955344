-- Write one envelope (see entries.lua), unless it is of another epoch than the position; a value only if the position
-- is there and not far ahead of it.
--
-- KEYS[1]  the key
-- KEYS[2]  the position's key
-- ARGV[1]  the new envelope
-- ARGV[2]  the key's lifetime in milliseconds
-- ARGV[3]  "1" if a fence may replace a value of its own version
-- ARGV[4]  the largest size that an envelope can have
-- ARGV[5]  how many milliseconds the position may be ahead of a value
-- returns  0 superseded, 1 applied, 2 written over something that was no envelope, 3 refused

local POSITION_MAGIC = 'zpp\1'
local POSITION_EPOCH, POSITION_AT, POSITION_BYTES = 5, 21, 28 -- The offsets of position.py, plus one.

local new = ARGV[1]
local is_value = string.byte(new, FLAGS) == VALUE
local position = redis.pcall('GETRANGE', KEYS[2], 0, POSITION_BYTES - 1)
if type(position) == 'string' and #position == POSITION_BYTES and string.sub(position, 1, 4) == POSITION_MAGIC then
  if string.sub(position, POSITION_EPOCH, POSITION_AT - 1) ~= string.sub(new, EPOCH, VERSION - 1) then
    -- Its writer has not heard of the new epoch. A fence would take the place of one of the new epoch; the relay brings it.
    return is_value and REFUSED or SUPERSEDED
  end
  if is_value and milliseconds(position, POSITION_AT) - milliseconds(new, WRITTEN_AT) > tonumber(ARGV[5]) then
    return REFUSED
  end
elseif is_value then
  return REFUSED
end
return put_if_newer(KEYS[1], new, tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4]))

-- What both scripts know of entries: the table in tier.py, once more in Lua. Stands before each of them.
--
-- Only 32 bytes of what stands under a key are read, so an absurdly large value costs nothing. Numbers of 64 bits are
-- compared as two halves of 32 bits: a Lua number holds 53 bits, and string `<` follows the locale. string.byte
-- instead of Redis' struct library: it works in every Lua that plays Redis.

local SUPERSEDED, APPLIED, REPLACED_CORRUPT, REFUSED = 0, 1, 2, 3
local MAGIC = 'zpm\1'
local HEADER_BYTES = 76
local FLAGS, EPOCH, VERSION, WRITTEN_AT = 6, 9, 25, 41 -- The offsets of envelope.py, plus one: Lua counts from 1.
local FENCE, VALUE = 0, 1

local function half(text, at)
  local a, b, c, d = string.byte(text, at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

-- Milliseconds since 1970: far below 2^53.
local function milliseconds(text, at)
  return half(text, at) * 4294967296 + half(text, at + 4)
end

-- Write an envelope unless what stands under the key is newer; `retire`: a fence may replace a value of its own version.
local function put_if_newer(key, new, lifetime_ms, retire, max_bytes)
  local function replace(outcome)
    redis.call('SET', key, new, 'PX', lifetime_ms)
    return outcome
  end

  local size = redis.pcall('STRLEN', key)
  if type(size) == 'table' then -- WRONGTYPE: SET replaces a value of any type.
    return replace(REPLACED_CORRUPT)
  end
  if size == 0 then
    return replace(redis.call('EXISTS', key) == 0 and APPLIED or REPLACED_CORRUPT)
  end
  if size < HEADER_BYTES or size > max_bytes then
    return replace(REPLACED_CORRUPT)
  end

  local old = redis.call('GETRANGE', key, 0, VERSION + 6)
  local old_flags, new_flags = string.byte(old, FLAGS), string.byte(new, FLAGS)
  if string.sub(old, 1, #MAGIC) ~= MAGIC or (old_flags ~= FENCE and old_flags ~= VALUE) then
    return replace(REPLACED_CORRUPT)
  end
  if string.sub(old, EPOCH, VERSION - 1) ~= string.sub(new, EPOCH, VERSION - 1) then
    return replace(APPLIED)
  end

  local old_half, new_half = half(old, VERSION), half(new, VERSION)
  if old_half == new_half then
    old_half, new_half = half(old, VERSION + 4), half(new, VERSION + 4)
  end
  if new_half > old_half then
    return replace(APPLIED)
  end
  if new_half == old_half and (old_flags == FENCE or new_flags == VALUE or retire) then
    return replace(APPLIED)
  end

  -- What stands there does a refused fence's work, so it has to stand as long as the fence would have.
  if new_flags == FENCE then
    local left_ms = redis.call('PTTL', key)
    if left_ms >= 0 and left_ms < lifetime_ms then
      redis.call('PEXPIRE', key, lifetime_ms)
    end
  end
  return SUPERSEDED
end

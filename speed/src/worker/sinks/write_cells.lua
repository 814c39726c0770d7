-- Writes cells unless Redis has newer ones: an older writer, paused or replaying, changes nothing.
-- KEYS: the epoch, then for each group of cells its hash of totals and the keys of its cells' users.
-- ARGV: the epoch that the writer knows, then for each group the expiry in s, the number of cells, and for each cell the
-- field, the totals (a version leads them), and its users: a whole HyperLogLog, or 'P' and the pieces of the dense one that
-- have changed (a byte with the number, 96 bytes), or '' where they stand beside the totals.
-- Returns how many cells have lost what the pieces belong to; -1, and writes nothing, if Redis was emptied.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return -1
end

local HEADER, PIECE, DENSE = 16, 96, 12304

local function write_users(key, users, expiry)
  if string.byte(users) ~= 80 then
    redis.call('SET', key, users, 'EXAT', expiry)
    return true
  end
  if redis.call('STRLEN', key) ~= DENSE then
    return false
  end
  for at = 2, #users, 1 + PIECE do
    redis.call('SETRANGE', key, HEADER + PIECE * string.byte(users, at), string.sub(users, at + 1, at + PIECE))
  end
  if #users > 1 then
    -- The cardinality that Redis has noted is out of date.
    redis.call('SETRANGE', key, HEADER - 1, '\128')
  end
  return true
end

local function version(totals)
  return tonumber(string.match(totals, '^%d+'))
end

local now = tonumber(redis.call('TIME')[1])
local lost = 0
local key, argument = 2, 2
while key <= #KEYS do
  local totals_key, expiry, cells = KEYS[key], ARGV[argument], tonumber(ARGV[argument + 1])
  local first = argument + 2
  local fields = {}
  for cell = 1, cells do
    fields[cell] = ARGV[first + 3 * cell - 3]
  end
  -- A window that has ended here meanwhile is gone with its users, which is no loss.
  local kept = tonumber(expiry) > now
  local current = kept and redis.call('HMGET', totals_key, unpack(fields)) or {}
  local changes, is_new = {}, true
  for cell = 1, kept and cells or 0 do
    local known, totals, users = current[cell], ARGV[first + 3 * cell - 2], ARGV[first + 3 * cell - 1]
    is_new = is_new and not known
    if not known or version(known) <= version(totals) then
      if users == '' or write_users(KEYS[key + cell], users, expiry) then
        changes[#changes + 1] = fields[cell]
        changes[#changes + 1] = totals
      else
        lost = lost + 1
      end
    end
  end
  if #changes > 0 then
    redis.call('HSET', totals_key, unpack(changes))
    if is_new then
      redis.call('EXPIREAT', totals_key, expiry)
    end
  end
  key = key + cells + 1
  argument = first + 3 * cells
end
return lost

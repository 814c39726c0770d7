-- Writes cells unless Redis has newer ones: an older writer, paused or replaying, changes nothing.
-- KEYS: for each group of cells its hash of totals, then the keys of its cells' users.
-- ARGV: for each group the version, the expiry in s, the number of cells, then for each cell the field, the totals
-- (a version leads them), the users' HyperLogLog or ''.
local key, argument = 1, 1
while key <= #KEYS do
  local totals_key, version, expiry = KEYS[key], tonumber(ARGV[argument]), ARGV[argument + 1]
  local cells = tonumber(ARGV[argument + 2])
  local first = argument + 3
  local fields = {}
  for cell = 1, cells do
    fields[cell] = ARGV[first + 3 * cell - 3]
  end
  local current = redis.call('HMGET', totals_key, unpack(fields))
  local changes = {}
  for cell = 1, cells do
    if not current[cell] or tonumber(string.match(current[cell], '^%d+')) <= version then
      changes[#changes + 1] = fields[cell]
      changes[#changes + 1] = ARGV[first + 3 * cell - 2]
      local users = ARGV[first + 3 * cell - 1]
      if users ~= '' then
        redis.call('SET', KEYS[key + cell], users, 'EXAT', expiry)
      end
    end
  end
  if #changes > 0 then
    redis.call('HSET', totals_key, unpack(changes))
    redis.call('EXPIREAT', totals_key, expiry)
  end
  key = key + cells + 1
  argument = first + 3 * cells
end
return 1

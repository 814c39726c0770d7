-- Writes cells unless Redis has newer ones: an older writer, paused or replaying, changes nothing.
-- KEYS: for each cell the hash of totals, then the key of its users.
-- ARGV: for each cell the field, the totals (their version leads), the users' HyperLogLog or '', the expiry in s.
for cell = 1, #KEYS / 2 do
  local totals_key, users_key = KEYS[2 * cell - 1], KEYS[2 * cell]
  local field, totals, users, expiry = ARGV[4 * cell - 3], ARGV[4 * cell - 2], ARGV[4 * cell - 1], ARGV[4 * cell]
  local current = redis.call('HGET', totals_key, field)
  if not current or tonumber(string.match(current, '^%d+')) <= tonumber(string.match(totals, '^%d+')) then
    redis.call('HSET', totals_key, field, totals)
    redis.call('EXPIREAT', totals_key, expiry)
    if users ~= '' then
      redis.call('SET', users_key, users, 'EXAT', expiry)
    end
  end
end
return 1

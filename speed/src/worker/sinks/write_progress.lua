-- Says how far the partitions are, unless Redis was emptied since the cells were written: then it answers 0.
-- KEYS: the hash of progress, the epoch. ARGV: the epoch expected, then for each partition its number, its next
-- offset and its progress as JSON.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
for i = 2, #ARGV, 3 do
  local current = redis.call('HGET', KEYS[1], ARGV[i])
  if not current or cjson.decode(current).next_offset <= tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  end
end
return 1

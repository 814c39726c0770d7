-- Announces a change under the next sequence number, both in one step, so that numbers arrive in order.
-- KEYS: the sequence number. ARGV: the channel, the change as JSON without its leading `{"seq":`.
local seq = redis.call('INCR', KEYS[1])
redis.call('PUBLISH', ARGV[1], '{"seq":' .. string.format('%.0f', seq) .. ARGV[2])
return seq

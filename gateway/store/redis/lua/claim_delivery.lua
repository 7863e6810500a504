-- Claims a due webhook. A claim that is sent again recognises itself by its token.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local outbox, webhooks, delivery_id, token, lease = KEYS[1], KEYS[2], ARGV[2], ARGV[3], tonumber(ARGV[4])
local due_at = redis.call('ZSCORE', outbox, delivery_id)
if not due_at then return false end
if redis.call('HGET', webhooks, delivery_id .. '#token') ~= token then
  if tonumber(due_at) > now then return false end
  redis.call('HINCRBY', webhooks, delivery_id .. '#attempts', 1)
  redis.call('HSET', webhooks, delivery_id .. '#token', token)
  redis.call('ZADD', outbox, 'XX', format_score(now + lease), delivery_id)
end
return redis.call('HMGET', webhooks, delivery_id, delivery_id .. '#attempts')

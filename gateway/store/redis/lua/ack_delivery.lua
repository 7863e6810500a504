-- Removes a webhook: it was delivered, or is given up.
local outbox, webhooks, delivery_id = KEYS[1], KEYS[2], ARGV[2]
redis.call('ZREM', outbox, delivery_id)
redis.call('HDEL', webhooks, delivery_id, delivery_id .. '#attempts', delivery_id .. '#token')
return 1

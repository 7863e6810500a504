-- Schedules another attempt of a webhook, unless it was delivered meanwhile.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local outbox, delivery_id, delay = KEYS[1], ARGV[2], tonumber(ARGV[3])
redis.call('ZADD', outbox, 'XX', format_score(now + delay), delivery_id)
return 1

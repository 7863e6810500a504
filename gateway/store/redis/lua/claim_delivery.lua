-- A webhook whose time has come is leased to whoever asks first. The token lets a repeated claim know itself.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local outbox, webhooks, id, token, lease = KEYS[1], KEYS[2], ARGV[2], ARGV[3], tonumber(ARGV[4])
local score = redis.call('ZSCORE', outbox, id)
if not score then return false end
if redis.call('HGET', webhooks, id .. '#token') ~= token then
  if tonumber(score) > now then return false end
  redis.call('HINCRBY', webhooks, id .. '#tries', 1)
  redis.call('HSET', webhooks, id .. '#token', token)
  redis.call('ZADD', outbox, 'XX', moment(now + lease), id)
end
return redis.call('HMGET', webhooks, id, id .. '#tries')

-- The auditor's corrections, all additions, made once: only while its lock stands, which goes with them.
-- KEYS: lock, due, open, kept, then those that the corrections name by their number.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local token, found = ARGV[2], cmsgpack.unpack(ARGV[3])
if redis.call('GET', KEYS[1]) ~= token then return 0 end
for _, job in ipairs(found.unlisted) do
  if redis.call('HGET', KEYS[job.key], 'version') == job.version then
    redis.call('SADD', KEYS[3], job.id)
    redis.call('ZADD', KEYS[2], 'NX', moment(now), job.id)
  end
end
for _, id in ipairs(found.gone) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('SREM', KEYS[3], id)
end
for _, id in ipairs(found.kept) do redis.call('ZADD', KEYS[4], 'NX', moment(now + settings.keep_jobs), id) end
for _, entry in ipairs(found.entries) do
  redis.call('RPUSH', KEYS[entry.key], entry.data)
  redis.call('EXPIREAT', KEYS[entry.key], whole(entry.ends))
end
for _, total in ipairs(found.totals) do
  redis.call('HINCRBY', KEYS[total.key], 'amount:' .. total.account, whole(total.amount))
  redis.call('HINCRBY', KEYS[total.key], 'images:' .. total.account, whole(total.images))
  redis.call('EXPIREAT', KEYS[total.key], whole(total.ends))
end
for _, drift in ipairs(found.balances) do
  redis.call('HINCRBY', KEYS[drift.key], 'held', whole(drift.held))
  redis.call('HINCRBY', KEYS[drift.key], 'spent', whole(drift.spent))
  redis.call('EXPIREAT', KEYS[drift.key], whole(drift.ends))
end
redis.call('DEL', KEYS[1])
return 1

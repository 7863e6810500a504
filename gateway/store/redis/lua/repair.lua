-- Applies the auditor's repairs. All are additions, made once: only while its lock exists, which they delete.
-- KEYS: lock, due, open, retention, then those that the corrections name by their index.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local lock, due, open_jobs, retention = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, corrections = ARGV[2], cmsgpack.unpack(ARGV[3])
if redis.call('GET', lock) ~= token then return 0 end
for _, unlisted in ipairs(corrections.unlisted) do
  if redis.call('HGET', KEYS[unlisted.key], 'version') == unlisted.version then
    redis.call('SADD', open_jobs, unlisted.job_id)
    redis.call('ZADD', due, 'NX', format_score(now), unlisted.job_id)
  end
end
for _, job_id in ipairs(corrections.delisted) do
  redis.call('ZREM', due, job_id)
  redis.call('SREM', open_jobs, job_id)
end
for _, job_id in ipairs(corrections.retained) do
  redis.call('ZADD', retention, 'NX', format_score(now + settings.keep_jobs), job_id)
end
for _, entry in ipairs(corrections.missing_entries) do
  redis.call('RPUSH', KEYS[entry.key], entry.data)
  redis.call('EXPIREAT', KEYS[entry.key], format_integer(entry.expires_at))
end
for _, total in ipairs(corrections.total_corrections) do
  redis.call('HINCRBY', KEYS[total.key], 'amount:' .. total.account, format_integer(total.amount))
  redis.call('HINCRBY', KEYS[total.key], 'images:' .. total.account, format_integer(total.images))
  redis.call('EXPIREAT', KEYS[total.key], format_integer(total.expires_at))
end
for _, drift in ipairs(corrections.budget_drifts) do
  redis.call('HINCRBY', KEYS[drift.key], 'held', format_integer(drift.held))
  redis.call('HINCRBY', KEYS[drift.key], 'spent', format_integer(drift.spent))
  redis.call('EXPIREAT', KEYS[drift.key], format_integer(drift.expires_at))
end
redis.call('DEL', lock)
return 1

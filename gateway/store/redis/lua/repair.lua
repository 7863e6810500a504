-- Applies the auditor's repairs. Numbers are repaired by additions, made once: only while the audit runs, which ends here.
-- KEYS: audit, due, open, retention, uncounted, open states, then those that the corrections name by their index.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include derived_totals
local audit, due, open_jobs, retention, uncounted, open_states = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, corrections = ARGV[2], cmsgpack.unpack(ARGV[3])
if redis.call('SISMEMBER', audit, token) == 0 then return 0 end
-- A job that changed after the snapshot is listed as its last commit says.
for _, unlisted in ipairs(corrections.unlisted) do
  if redis.call('HGET', KEYS[unlisted.key], 'version') == unlisted.version then
    redis.call('SADD', open_jobs, unlisted.job_id)
    redis.call('ZADD', due, 'NX', format_score(now), unlisted.job_id)
  end
end
for _, delisted in ipairs(corrections.delisted) do
  if (redis.call('HGET', KEYS[delisted.key], 'version') or '') == delisted.version then
    redis.call('ZREM', due, delisted.job_id)
    redis.call('SREM', open_jobs, delisted.job_id)
    redis.call('ZREM', open_states, delisted.job_id)
  end
end
for _, retained in ipairs(corrections.retained) do
  redis.call('ZADD', retention, 'NX', format_score(retained.cleanup_at), retained.job_id)
end
for _, entry in ipairs(corrections.missing_entries) do
  for _, key in ipairs(entry.keys) do
    redis.call('RPUSH', KEYS[key], entry.data)
    redis.call('EXPIREAT', KEYS[key], format_integer(entry.expires_at))
  end
end
for _, total in ipairs(corrections.total_corrections) do
  add_to_total(KEYS[total.key], total.account, total.amount, total.images, uncounted, total.day)
  redis.call('EXPIREAT', KEYS[total.key], format_integer(total.expires_at))
end
for _, drift in ipairs(corrections.budget_drifts) do
  add_to_budget(KEYS[drift.key], drift.held, drift.spent, drift.expires_at)
end
redis.call('DEL', audit)
return 1

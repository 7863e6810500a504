-- Renews leases. Returns the ids of jobs that the replica no longer owns.
-- KEYS: the due set, then each job. ARGV: the settings, then the id and fence of each job.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local due, lost = KEYS[1], {}
for index = 2, #KEYS do
  local job, job_id, fence = KEYS[index], ARGV[index * 2 - 2], ARGV[index * 2 - 1]
  local fields = redis.call('HMGET', job, 'fence', 'owner', 'reclaims', 'claimed_at', 'max_owned_seconds')
  local due_at = fields[1] == fence and fields[2] == settings.replica_id and redis.call('ZSCORE', due, job_id)
  if due_at then
    local owned_seconds = fields[4] and math.floor((now - fields[4]) * 1000 + 0.5) / 1000
    local max_owned_seconds, is_suspect = tonumber(fields[5] or 0), tonumber(fields[3] or 0) > 0
    if owned_seconds then redis.call('HSET', job, 'owned_seconds', owned_seconds) end
    local min_survival_seconds = 2 * (max_owned_seconds + settings.renewal_interval)
    if is_suspect and (max_owned_seconds == 0 or owned_seconds > min_survival_seconds) then
      redis.call('HSET', job, 'reclaims', 0)
      is_suspect = false
    end
    local lease_ends_at = now + settings.lease
    if is_suspect then lease_ends_at = math.max(lease_ends_at, tonumber(due_at)) end
    redis.call('ZADD', due, 'XX', format_score(lease_ends_at), job_id)
  else
    lost[#lost + 1] = job_id
  end
end
return lost

-- Claims a due job. A claim that is sent again recognises itself by its token.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include repeated_request_matching
local job, due, record_key, job_id, token = KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[3]
local due_at = redis.call('ZSCORE', due, job_id)
local fields = redis.call('HMGET', job, 'claim_token', 'encoded_job', 'owner', 'owned_seconds', 'max_owned_seconds')
if not fields[2] then return false end
if fields[1] ~= token then
  if not due_at or tonumber(due_at) > now then return false end
  -- Clients that waited at the former owner have lost their connections, unless this replica is the former owner.
  local former_prefix = (fields[3] or '') .. ':'
  if former_prefix ~= ':' and former_prefix ~= settings.replica_id .. ':' then
    redis.call('HSET', job, 'max_owned_seconds', math.max(tonumber(fields[4] or 0), tonumber(fields[5] or 0)))
    remove_callers(record_key, function(caller_id)
      return string.sub(caller_id, 1, #former_prefix) == former_prefix
    end, job_id)
  end
  redis.call('HINCRBY', job, 'fence', 1)
  -- The lease doubles with each owner that crashed while it ran the job alone.
  local crashes_alone = redis.call('HINCRBY', job, 'reclaims', 1) - settings.max_early_crashes - 1
  local max_lease = math.max(settings.lease, settings.max_lease)
  local lease = math.min(settings.lease * 2 ^ math.min(math.max(crashes_alone, 0), 64), max_lease)
  redis.call('HSET', job, 'owner', settings.replica_id, 'claim_token', token, 'claimed_at', format_score(now),
    'owned_seconds', 0)
  redis.call('ZADD', due, 'XX', format_score(now + lease), job_id)
end
return redis.call('HMGET', job, 'encoded_job', 'fence', 'reclaims', 'max_owned_seconds')

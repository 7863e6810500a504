-- Commits one transition of one job: completely or not at all, and once however often it is sent.
-- ARGV: the commit, the settings, then the documents' bytes in the order of their names.
-- The job is written first and derived numbers last: the auditor can repair those, but not a job.
local settings = cmsgpack.unpack(ARGV[2])
--include clock
--include repeated_request_matching
--include derived_totals
local commit = cmsgpack.unpack(ARGV[1])
local job, due, open_jobs, team_jobs, milestones = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local ledger, totals, outbox, webhooks, record_key = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local owners, retention, decision_records, audit = KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local uncounted, open_states, hour_totals, irregular = KEYS[15], KEYS[16], KEYS[17], KEYS[18]
-- The keys of balances follow. Changes and limits name them by their indexes.

local existing = redis.call('HMGET', job, 'version', 'fence', 'owner', 'commit_ids')
local commit_ids, owner = existing[4] or '', existing[3] or ''
if string.find(commit_ids, commit.commit_id, 1, true) then return {'applied'} end
if tonumber(existing[1] or 0) ~= commit.expected_version then return {'version_conflict'} end
-- A claim that a failover lost may give its fence to a second owner.
if commit.fence and (owner ~= settings.replica_id or tonumber(existing[2] or 0) ~= commit.fence) then
  return {'lease_lost'}
end
local is_new = commit.expected_version == 0

local entries

local function find_refusal()
  local request = commit.idempotency
  if request and request.is_body_key then
    local job_id
    job_id, entries = attach_caller(record_key, request)
    if job_id then return {'duplicate_request', job_id} end
  elseif request then
    local stored = redis.call('HMGET', record_key, 'fingerprint', 'job_id')
    if stored[2] then
      return {stored[1] == request.fingerprint and 'duplicate_request' or 'key_reused', stored[2]}
    end
  end
  for index, limit in ipairs(commit.limits) do
    local held, spent = 0, 0
    for _, key in ipairs(limit.keys) do
      local balance = redis.call('HMGET', KEYS[key], 'held', 'spent')
      held, spent = held + tonumber(balance[1] or 0), spent + tonumber(balance[2] or 0)
    end
    if held + spent + commit.hold > limit.amount then
      return {'budget_exceeded', format_integer(index), format_integer(spent), format_integer(held)}
    end
  end
end

if is_new then
  local refusal = find_refusal()
  if refusal then return refusal end
  owner = settings.replica_id
  -- Before the job is written: a job that is listed here would be deleted.
  redis.call('ZREM', retention, commit.job_id)
  redis.call('HSET', job, 'fence', 1, 'owner', owner)
end
-- A running audit reads the job again at its end.
if redis.call('EXISTS', audit) == 1 then redis.call('SADD', audit, commit.job_id) end
redis.call('HSET', job, 'version', format_integer(commit.expected_version + 1), 'encoded_job', commit.encoded_job,
  'reclaims', 0, 'commit_ids',
  string.sub(commit.commit_id .. ' ' .. commit_ids, 1, settings.max_remembered_commits * (#commit.commit_id + 1)))
-- The job made progress: how long earlier owners worked on it no longer matters.
if not is_new then redis.call('HDEL', job, 'claimed_at', 'owned_seconds', 'max_owned_seconds') end
for _, name in ipairs(commit.removed_documents) do redis.call('HDEL', job, 'document:' .. name) end
for index, name in ipairs(commit.documents) do redis.call('HSETNX', job, 'document:' .. name, ARGV[index + 2]) end

if commit.decision_record then
  redis.call('HSETNX', decision_records, commit.job_id, commit.decision_record)
  redis.call('EXPIREAT', decision_records, format_integer(commit.decisions_expire_at))
end
if commit.job_outcome then
  local record = redis.call('HGET', decision_records, commit.job_id)
  if record then
    redis.call('HSET', decision_records, commit.job_id, string.match(record, '[^\n]*') .. '\n' .. commit.job_outcome)
  end
end

if commit.due_in_seconds then
  redis.call('SADD', open_jobs, commit.job_id)
  redis.call('ZADD', open_states, format_score(commit.open_state_score), commit.job_id)
  if owner == '' then
    redis.call('ZADD', due, format_score(now + commit.due_in_seconds), commit.job_id)
  else
    redis.call('ZADD', due, 'NX', format_score(now + settings.lease), commit.job_id)
  end
else
  redis.call('ZREM', due, commit.job_id)
  redis.call('ZREM', open_states, commit.job_id)
  redis.call('SREM', open_jobs, commit.job_id)
end

for _, milestone in ipairs(commit.milestones) do redis.call('RPUSH', milestones, milestone) end
if is_new then
  redis.call('SADD', owners, unpack(commit.owners))
  redis.call('ZADD', team_jobs, 0, commit.list_member)
  -- Jobs that were kept longer may still be listed.
  redis.call('EXPIRE', team_jobs, format_integer(commit.keep_seconds + 172800), 'NX')
  redis.call('EXPIRE', team_jobs, format_integer(commit.keep_seconds + 172800), 'GT')
  local request = commit.idempotency
  if request and request.is_body_key then
    add_entry(record_key, entries, request, commit.job_id)
  elseif request then
    redis.call('HSET', record_key, 'fingerprint', request.fingerprint, 'job_id', commit.job_id)
    redis.call('PEXPIRE', record_key, format_integer(request.ttl_seconds * 1000))
  end
elseif commit.idempotency_ttl and commit.is_body_key then
  end_entry(record_key, commit)
elseif commit.idempotency_ttl and redis.call('HGET', record_key, 'job_id') == commit.job_id then
  redis.call('PEXPIRE', record_key, format_integer(commit.idempotency_ttl * 1000))
end
if not commit.due_in_seconds then
  -- Retention counts from the settlement: later facts do not extend it. A replica deletes the job together with its
  -- images. If none does, the job expires a day later.
  redis.call('EXPIRE', job, format_integer(commit.keep_seconds + 86400), 'NX')
  redis.call('EXPIRE', milestones, format_integer(commit.keep_seconds + 86400), 'NX')
end
for _, webhook in ipairs(commit.webhooks) do
  redis.call('HSET', webhooks, webhook.delivery_id, webhook.data)
  redis.call('ZADD', outbox, format_score(now), webhook.delivery_id)
end
for _, entry in ipairs(commit.ledger) do
  redis.call('RPUSH', ledger, entry.data)
  if entry.is_irregular then
    redis.call('RPUSH', irregular, entry.data)
    redis.call('EXPIREAT', irregular, format_integer(commit.ledger_expires_at))
  end
  add_to_total(totals, entry.account, entry.amount, entry.images, uncounted, commit.ledger_day)
  add_to_total(hour_totals, entry.account, entry.amount, entry.images)
end
if #commit.ledger > 0 then
  redis.call('EXPIREAT', ledger, format_integer(commit.ledger_expires_at))
  redis.call('EXPIREAT', totals, format_integer(commit.totals_expire_at))
  redis.call('EXPIREAT', hour_totals, format_integer(commit.ledger_expires_at))
end
for _, change in ipairs(commit.budget) do
  add_to_budget(KEYS[change.key], change.hold, change.spend, change.expires_at)
end
-- Last of all: after a crash of the server, a settled job that is missing here may be half written and is audited.
if not commit.due_in_seconds then
  redis.call('ZADD', retention, format_score(now + commit.cleanup_in_seconds), commit.job_id)
end
redis.call('PUBLISH', settings.changes_channel, commit.job_id .. ' ' .. format_integer(commit.expected_version + 1))
return {'applied'}

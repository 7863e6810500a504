-- One transition of one job: all of it or nothing, and done once however often it is sent.
-- ARGV: the commit, the settings, then the documents' bytes in the order of their names.
-- The job comes first and numbers derived from it last: the auditor can mend those, but not a job.
local settings = cmsgpack.unpack(ARGV[2])
--include clock
--include body_deduplication
local commit = cmsgpack.unpack(ARGV[1])
local job, due, open, jobs, milestones, ledger, totals = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local budgets = {day = KEYS[8], month = KEYS[9]}
local outbox, webhooks, record, teams, kept = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]

local known = redis.call('HMGET', job, 'version', 'fence', 'owner', 'ops')
local ops, owner = known[4] or '', known[3] or ''
if string.find(ops, commit.op, 1, true) then return {'applied'} end
if tonumber(known[1] or 0) ~= commit.expected then return {'stale'} end
if commit.fence and (owner == '' or tonumber(known[2] or 0) ~= commit.fence) then return {'fenced'} end
local is_new = commit.expected == 0

local entries

local function refusal()
  local asked = commit.idempotency
  if asked and asked.soft then
    local known
    known, entries = attach_caller(record, asked)
    if known then return {'known', known} end
  elseif asked then
    local seen = redis.call('HMGET', record, 'fingerprint', 'job')
    if seen[2] then return {seen[1] == asked.fingerprint and 'known' or 'key reused', seen[2]} end
  end
  for _, move in ipairs(commit.budget) do
    local balance = redis.call('HMGET', budgets[move.kind], 'held', 'spent')
    local held, spent = tonumber(balance[1] or 0), tonumber(balance[2] or 0)
    if move.limit and held + spent + move.hold > move.limit then
      return {'over budget', move.window, whole(move.limit), whole(spent), whole(held)}
    end
  end
end

if is_new then
  local refused = refusal()
  if refused then return refused end
  owner = settings.owner
  -- Before there is a job: one that is listed here would be forgotten.
  redis.call('ZREM', kept, commit.id)
  redis.call('HSET', job, 'fence', 1, 'owner', owner)
end
redis.call('HSET', job, 'version', whole(commit.expected + 1), 'blob', commit.blob, 'rescues', 0,
  'ops', string.sub(commit.op .. ' ' .. ops, 1, settings.remembered * (#commit.op + 1)))
-- This is progress: how long earlier owners worked on the job no longer matters.
if not is_new then redis.call('HDEL', job, 'claimed_at', 'lived', 'longest') end
for _, name in ipairs(commit.dropped) do redis.call('HDEL', job, 'document:' .. name) end
for number, name in ipairs(commit.documents) do redis.call('HSETNX', job, 'document:' .. name, ARGV[number + 2]) end

if commit.due then
  redis.call('SADD', open, commit.id)
  if owner == '' then
    redis.call('ZADD', due, moment(now + commit.due), commit.id)
  else
    redis.call('ZADD', due, 'NX', moment(now + settings.lease), commit.id)
  end
else
  redis.call('ZREM', due, commit.id)
  redis.call('SREM', open, commit.id)
end

for _, milestone in ipairs(commit.milestones) do redis.call('RPUSH', milestones, milestone) end
if is_new then
  redis.call('SADD', teams, commit.team)
  redis.call('ZADD', jobs, 0, commit.listed)
  redis.call('ZREMRANGEBYLEX', jobs, '-', '(' .. commit.oldest)
  redis.call('EXPIRE', jobs, whole(settings.keep_jobs + 172800))
  local asked = commit.idempotency
  if asked and asked.soft then
    add_entry(record, entries, asked, commit.id)
  elseif asked then
    redis.call('HSET', record, 'fingerprint', asked.fingerprint, 'job', commit.id)
    redis.call('PEXPIRE', record, whole(asked.seconds * 1000))
  end
elseif commit.linger and commit.soft then
  end_entry(record, commit)
elseif commit.linger and redis.call('HGET', record, 'job') == commit.id then
  redis.call('PEXPIRE', record, whole(commit.linger * 1000))
end
if not commit.due then
  -- It is forgotten when its pictures are; should nobody do that, it goes by itself a day later.
  redis.call('EXPIRE', job, whole(settings.keep_jobs + 86400))
  redis.call('EXPIRE', milestones, whole(settings.keep_jobs + 86400))
end
for _, webhook in ipairs(commit.webhooks) do
  redis.call('HSET', webhooks, webhook.id, webhook.data)
  redis.call('ZADD', outbox, moment(now), webhook.id)
end
for _, entry in ipairs(commit.ledger) do
  redis.call('RPUSH', ledger, entry.data)
  redis.call('HINCRBY', totals, 'amount:' .. entry.account, whole(entry.amount))
  redis.call('HINCRBY', totals, 'images:' .. entry.account, whole(entry.images))
end
if #commit.ledger > 0 then
  redis.call('EXPIREAT', ledger, whole(commit.ledger_ends))
  redis.call('EXPIREAT', totals, whole(commit.totals_end))
end
for _, move in ipairs(commit.budget) do
  redis.call('HINCRBY', budgets[move.kind], 'held', whole(move.hold))
  redis.call('HINCRBY', budgets[move.kind], 'spent', whole(move.spend))
  redis.call('EXPIREAT', budgets[move.kind], whole(commit.totals_end))
end
-- Last of all: what is not listed here after a disaster may be half done, and is looked at.
if not commit.due then redis.call('ZADD', kept, moment(now + settings.keep_jobs), commit.id) end
redis.call('PUBLISH', settings.channel, commit.id)
return {'applied'}

-- All live jobs of one request body, oldest first: one packed list, read and written whole.
-- An entry: job_id, expires_at, callers (caller_id, retry_count), awaits_first_request, has_ended, may_be_charged,
-- is_refused. The same rules in Python: gateway/store/repeated_request_matching.py
local MAX_ENTRIES, MAX_CALLERS, MAX_REFUSALS, IRREPLACEABLE = 512, 16, 32, 1000000

local function read_entries(record_key)
  local packed, live_entries = redis.call('GET', record_key), {}
  if packed then
    for _, entry in ipairs(cmsgpack.unpack(packed)) do
      if entry.expires_at > now then live_entries[#live_entries + 1] = entry end
    end
  end
  return live_entries
end

-- The record itself expires with its last entry.
local function write_entries(record_key, entries)
  local live_entries, last_expiry = {}, now
  for _, entry in ipairs(entries) do
    if entry.expires_at > now then
      live_entries[#live_entries + 1] = entry
      last_expiry = math.max(last_expiry, entry.expires_at)
    end
  end
  if #live_entries == 0 then return redis.call('DEL', record_key) end
  local ttl_ms = format_integer(math.ceil((last_expiry - now) * 1000))
  redis.call('SET', record_key, cmsgpack.pack(live_entries), 'PX', ttl_ms)
end

local function has_caller(entry, caller_id)
  for _, caller in ipairs(entry.callers) do
    if caller.caller_id == caller_id then return true end
  end
  return false
end

-- Returns the index of the caller that this retry replaces: the request that the SDK sent last before this one, and
-- has given up since.
local function find_predecessor(entry, request)
  local found
  for index, caller in ipairs(entry.callers) do
    local is_earlier = request.is_retry and caller.retry_count < request.retry_count
    if is_earlier and (not found or caller.retry_count > entry.callers[found].retry_count) then found = index end
  end
  return found
end

-- A retry can attach to an entry without callers, or to one with its predecessor. A first request can attach to an
-- entry that awaits it, that has no callers, or that may be charged. A refusal matches the next retry of one of its
-- callers: that retry needs a job of its own, and its first request has already arrived.
local function can_attach(entry, request)
  if #entry.callers == 0 then return true end
  if request.is_retry or entry.is_refused then return find_predecessor(entry, request) ~= nil end
  return entry.awaits_first_request or entry.may_be_charged
end

-- A smaller rank is better. The first difference decides, then age.
local function rank_entry(entry, request)
  local predecessor = find_predecessor(entry, request)
  return (not request.is_retry and entry.awaits_first_request) and 0 or 1,
    #entry.callers == 0 and 0 or 1,
    predecessor and request.retry_count - entry.callers[predecessor].retry_count or 0,
    entry.is_refused and 0 or 1,
    entry.has_ended and 1 or 0
end

local function is_better(entry, other, request)
  local entry_rank, other_rank = {rank_entry(entry, request)}, {rank_entry(other, request)}
  for index, value in ipairs(entry_rank) do
    if value ~= other_rank[index] then return value < other_rank[index] end
  end
  return false
end

-- The request needs a job of its own if this returns nil or a refusal.
local function find_entry(entries, request)
  local best
  for _, entry in ipairs(entries) do
    if not entry.is_refused and has_caller(entry, request.caller_id) then return entry end
    if can_attach(entry, request) and (not best or is_better(entry, best, request)) then best = entry end
  end
  return best
end

-- Removes the callers for which `should_drop` is true, of one job or of all jobs. Returns whether there were any. A
-- refusal keeps its callers: it records that their first requests have arrived.
local function drop_callers(entries, should_drop, job_id)
  local is_changed = false
  for _, entry in ipairs(entries) do
    local is_selected = not entry.is_refused and (not job_id or entry.job_id == job_id)
    for index = is_selected and #entry.callers or 0, 1, -1 do
      if should_drop(entry.callers[index].caller_id) then
        table.remove(entry.callers, index)
        is_changed = true
      end
    end
  end
  return is_changed
end

-- Each replica subscribes to a channel of its own. A process that is killed loses its connections at once.
local function is_listening(replica_id)
  local counts = redis.pcall('PUBSUB', 'NUMSUB', settings.replica_channel_prefix .. replica_id)
  return not counts.err and tonumber(counts[2]) > 0
end

-- Removes the callers of replicas that were killed, also from ended jobs, because it is unknown whether those callers
-- were answered. A replica that closed normally has answered its callers or removed them. If this replica itself seems
-- not to listen, the others cannot be judged. The servers of a Cluster see only their own subscribers.
local function drop_dead_callers(entries)
  if not settings.replica_channel_prefix or not is_listening(settings.replica_id) then return false end
  local is_dead = {[settings.replica_id] = false}
  return drop_callers(entries, function(caller_id)
    local replica_id = string.match(caller_id, '^(.*):')
    if replica_id and is_dead[replica_id] == nil then
      local has_closed = redis.call('EXISTS', settings.closed_mark_prefix .. replica_id) == 1
      is_dead[replica_id] = not is_listening(replica_id) and not has_closed
    end
    return replica_id and is_dead[replica_id]
  end)
end

-- Makes the request a caller of the job that it belongs to, and returns the job's id. Returns nil and the entries if
-- the request needs a job of its own.
local function attach_caller(record_key, request)
  local entries = read_entries(record_key)
  local entry = find_entry(entries, request)
  if (not entry or entry.is_refused) and #entries > 0 and drop_dead_callers(entries) then
    entry = find_entry(entries, request)
  end
  if not entry or entry.is_refused then return nil, entries end
  if has_caller(entry, request.caller_id) then return entry.job_id end
  local is_late = not request.is_retry and entry.awaits_first_request
  local predecessor = find_predecessor(entry, request)
  if predecessor then table.remove(entry.callers, predecessor) end
  if #entry.callers >= MAX_CALLERS then table.remove(entry.callers, 1) end
  -- The client has already given up a first request that arrives late, so no retry can replace it.
  local retry_count = is_late and IRREPLACEABLE or request.retry_count
  entry.callers[#entry.callers + 1] = {caller_id = request.caller_id, retry_count = retry_count}
  if is_late then entry.awaits_first_request = false end
  write_entries(record_key, entries)
  return entry.job_id
end

-- Returns the index of the oldest refusal, else of the oldest ended job, else of the oldest job.
local function find_entry_to_evict(entries)
  local refused, ended
  for index = #entries, 1, -1 do
    if entries[index].is_refused then refused = index end
    if entries[index].has_ended then ended = index end
  end
  return refused or ended or 1
end

-- Adds the new job of a request that belongs to no other job.
local function add_entry(record_key, entries, request, job_id)
  local refusal = find_entry(entries, request)
  if refusal then
    table.remove(refusal.callers, find_predecessor(refusal, request))
    if #refusal.callers == 0 then refusal.expires_at = now end
  end
  if #entries >= MAX_ENTRIES then table.remove(entries, find_entry_to_evict(entries)) end
  entries[#entries + 1] = {
    job_id = job_id, expires_at = now + request.ttl_seconds,
    callers = {{caller_id = request.caller_id, retry_count = request.retry_count}},
    awaits_first_request = request.awaits_first_request and not refusal, has_ended = false, may_be_charged = false,
    is_refused = false,
  }
  write_entries(record_key, entries)
end

-- Turns the entry of a job that charged nothing into a refusal, which records the first requests that have arrived. If
-- the job still awaits its own first request, the entry expires: the next retry awaits that request, too.
local function make_refusal(entries, entry)
  local counted_callers, refusals = {}, {}
  for _, caller in ipairs(entry.callers) do
    local is_counted = caller.retry_count >= 0 and caller.retry_count < IRREPLACEABLE
    if is_counted then counted_callers[#counted_callers + 1] = caller end
  end
  entry.callers, entry.is_refused = counted_callers, true
  if #counted_callers == 0 or entry.awaits_first_request then entry.expires_at = now end
  for _, other in ipairs(entries) do
    if other.is_refused and other.expires_at > now then refusals[#refusals + 1] = other end
  end
  if #refusals > MAX_REFUSALS then refusals[1].expires_at = now end
end

local function end_entry(record_key, commit)
  local entries = read_entries(record_key)
  for _, entry in ipairs(entries) do
    if entry.job_id == commit.job_id then
      entry.expires_at, entry.has_ended = now + commit.idempotency_ttl, true
      entry.may_be_charged = commit.may_be_charged
      if commit.is_refused then make_refusal(entries, entry) end
      return write_entries(record_key, entries)
    end
  end
end

-- Removes callers of one job, or of all jobs of the body.
local function remove_callers(record_key, should_drop, job_id)
  local entries = read_entries(record_key)
  if drop_callers(entries, should_drop, job_id) then write_entries(record_key, entries) end
end

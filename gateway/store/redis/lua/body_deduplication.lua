-- All live jobs that one body was asked for with, oldest first: one packed list, read and written whole.
-- An entry: job, ends (moment), callers (name, retry), expects_first, ended, may_be_bought, is_refused.
-- The same rules in Python: gateway/store/body_deduplication.py
local MAX_ENTRIES, MAX_CALLERS, MAX_REFUSALS, NEVER = 512, 16, 32, 1000000

local function read_entries(record)
  local packed, live = redis.call('GET', record), {}
  if packed then
    for _, entry in ipairs(cmsgpack.unpack(packed)) do
      if entry.ends > now then live[#live + 1] = entry end
    end
  end
  return live
end

-- The record itself ends with its last entry.
local function write_entries(record, entries)
  local live, last = {}, now
  for _, entry in ipairs(entries) do
    if entry.ends > now then
      live[#live + 1] = entry
      last = math.max(last, entry.ends)
    end
  end
  if #live == 0 then return redis.call('DEL', record) end
  redis.call('SET', record, cmsgpack.pack(live), 'PX', whole(math.ceil((last - now) * 1000)))
end

local function has_caller(entry, name)
  for _, caller in ipairs(entry.callers) do
    if caller.name == name then return true end
  end
  return false
end

-- The caller that this retry takes the place of: its SDK has sent it last before this one, and has given it up since.
local function find_predecessor(entry, asked)
  local found
  for number, caller in ipairs(entry.callers) do
    if asked.attach and caller.retry < asked.retry and (not found or caller.retry > entry.callers[found].retry) then found = number end
  end
  return found
end

-- A retry may have an entry that no caller waits for, or one of its predecessor's; a first asking one that awaits it,
-- that no caller waits for, or that may be bought. One that is refused says that its caller's next retry needs a job of
-- its own, whose first request has come already.
local function may_have(entry, asked)
  if #entry.callers == 0 then return true end
  if asked.attach or entry.is_refused then return find_predecessor(entry, asked) ~= nil end
  return entry.expects_first or entry.may_be_bought
end

-- What is smaller is better; the first difference counts, and then age.
local function preference(entry, asked)
  local predecessor = find_predecessor(entry, asked)
  return (not asked.attach and entry.expects_first) and 0 or 1,
    #entry.callers == 0 and 0 or 1,
    predecessor and asked.retry - entry.callers[predecessor].retry or 0,
    entry.is_refused and 0 or 1,
    entry.ended and 1 or 0
end

local function is_better(entry, other, asked)
  local ours, theirs = {preference(entry, asked)}, {preference(other, asked)}
  for number, value in ipairs(ours) do
    if value ~= theirs[number] then return value < theirs[number] end
  end
  return false
end

-- If there is none, or one that is refused, the request needs a job of its own.
local function find_entry(entries, asked)
  local found
  for _, entry in ipairs(entries) do
    if not entry.is_refused and has_caller(entry, asked.caller) then return entry end
    if may_have(entry, asked) and (not found or is_better(entry, found, asked)) then found = entry end
  end
  return found
end

-- Takes callers off: those that are to go, of one job, or of all. Whether there were any. An entry that is refused keeps
-- them: that their first requests have come stays true.
local function drop_callers(entries, is_to_go, job)
  local is_changed = false
  for _, entry in ipairs(entries) do
    local is_meant = not entry.is_refused and (not job or entry.job == job)
    for number = is_meant and #entry.callers or 0, 1, -1 do
      if is_to_go(entry.callers[number].name) then
        table.remove(entry.callers, number)
        is_changed = true
      end
    end
  end
  return is_changed
end

-- A replica listens on a channel of its own, and a process that is killed loses its connections at once.
local function is_listening(owner)
  local told = redis.pcall('PUBSUB', 'NUMSUB', settings.replicas .. owner)
  return not told.err and tonumber(told[2]) > 0
end

-- Takes off the callers of replicas that were killed: also of jobs that have ended, since it is not known whether they
-- were answered. A replica that closed in good order has answered its callers, or taken them off. Where the asking replica
-- itself seems not to listen, the others cannot be judged. A Cluster's servers know only their own listeners.
local function drop_dead_callers(entries)
  if not settings.replicas or not is_listening(settings.owner) then return false end
  local dead = {[settings.owner] = false}
  return drop_callers(entries, function(name)
    local owner = string.match(name, '^(.*):')
    if owner and dead[owner] == nil then
      dead[owner] = not is_listening(owner) and redis.call('EXISTS', settings.closed .. owner) == 0
    end
    return owner and dead[owner]
  end)
end

-- The job that this request belongs to, which has it for a caller from now on; nil if it needs one of its own.
local function attach_caller(record, asked)
  local entries = read_entries(record)
  local found = find_entry(entries, asked)
  if (not found or found.is_refused) and #entries > 0 and drop_dead_callers(entries) then
    found = find_entry(entries, asked)
  end
  if not found or found.is_refused then return nil, entries end
  if has_caller(found, asked.caller) then return found.job end
  local is_late = not asked.attach and found.expects_first
  local predecessor = find_predecessor(found, asked)
  if predecessor then table.remove(found.callers, predecessor) end
  if #found.callers >= MAX_CALLERS then table.remove(found.callers, 1) end
  -- A first request that comes late has been given up already: it has no place that another retry could take.
  found.callers[#found.callers + 1] = {name = asked.caller, retry = is_late and NEVER or asked.retry}
  if is_late then found.expects_first = false end
  write_entries(record, entries)
  return found.job
end

-- The oldest refusal, else the oldest that has ended, else the oldest.
local function find_superfluous(entries)
  local refused, ended
  for number = #entries, 1, -1 do
    if entries[number].is_refused then refused = number end
    if entries[number].ended then ended = number end
  end
  return refused or ended or 1
end

-- For a request that belongs to no other job.
local function add_entry(record, entries, asked, job)
  local refusal = find_entry(entries, asked)
  if refusal then
    table.remove(refusal.callers, find_predecessor(refusal, asked))
    if #refusal.callers == 0 then refusal.ends = now end
  end
  if #entries >= MAX_ENTRIES then table.remove(entries, find_superfluous(entries)) end
  entries[#entries + 1] = {
    job = job, ends = now + asked.seconds, callers = {{name = asked.caller, retry = asked.retry}},
    expects_first = asked.expects_first and not refusal, ended = false, may_be_bought = false, is_refused = false,
  }
  write_entries(record, entries)
end

-- Nothing was bought for its job. What is left says which first requests have come; where the job's own is still on its
-- way, the next retry awaits it, too.
local function refuse_entry(entries, entry)
  local counted, refusals = {}, {}
  for _, caller in ipairs(entry.callers) do
    if caller.retry >= 0 and caller.retry < NEVER then counted[#counted + 1] = caller end
  end
  entry.callers, entry.is_refused = counted, true
  if #counted == 0 or entry.expects_first then entry.ends = now end
  for _, other in ipairs(entries) do
    if other.is_refused and other.ends > now then refusals[#refusals + 1] = other end
  end
  if #refusals > MAX_REFUSALS then refusals[1].ends = now end
end

local function end_entry(record, commit)
  local entries = read_entries(record)
  for _, entry in ipairs(entries) do
    if entry.job == commit.id then
      entry.ends, entry.ended, entry.may_be_bought = now + commit.linger, true, commit.may_be_bought
      if commit.is_refused then refuse_entry(entries, entry) end
      return write_entries(record, entries)
    end
  end
end

-- Of one job, or of all jobs of the body.
local function remove_callers(record, is_to_go, job)
  local entries = read_entries(record)
  if drop_callers(entries, is_to_go, job) then write_entries(record, entries) end
end

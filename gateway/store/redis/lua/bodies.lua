-- All live jobs that one body was asked for with: a hash from each job's id to its entry.
-- An entry: number (order of age), ends (moment), callers (name, retry), expects_first, ended, may_be_bought.
-- The same rules in Python: gateway/store/bodies.py
local MAX_ENTRIES, MAX_CALLERS, NEVER = 64, 16, 1000000

local function read_entries(record)
  local flat, entries = redis.call('HGETALL', record), {}
  for number = 1, #flat, 2 do
    local entry = cmsgpack.unpack(flat[number + 1])
    entry.job = flat[number]
    entries[#entries + 1] = entry
  end
  table.sort(entries, function(one, other) return one.number < other.number end)
  return entries
end

local function write_entry(record, entry)
  local job = entry.job
  entry.job = nil
  redis.call('HSET', record, job, cmsgpack.pack(entry))
  entry.job = job
end

-- Whatever is over goes, and the record itself ends with its last entry.
local function prune_entries(record, entries)
  local last = 0
  for _, entry in ipairs(entries) do
    if entry.ends <= now then redis.call('HDEL', record, entry.job) else last = math.max(last, entry.ends) end
  end
  if last > 0 then redis.call('PEXPIRE', record, whole(math.ceil((last - now) * 1000))) end
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
    if caller.retry < asked.retry and (not found or caller.retry > entry.callers[found].retry) then found = number end
  end
  return found
end

-- A retry may have an entry that no caller waits for, or one of its predecessor's; a first asking one that awaits it,
-- that no caller waits for, or that may be bought.
local function may_have(entry, asked)
  if #entry.callers == 0 then return true end
  if asked.attach then return find_predecessor(entry, asked) ~= nil end
  return entry.expects_first or entry.may_be_bought
end

-- What is smaller is better, the first difference counts.
local function preference(entry, asked)
  local predecessor = find_predecessor(entry, asked)
  return {
    (not asked.attach and entry.expects_first) and 0 or 1,
    #entry.callers == 0 and 0 or 1,
    predecessor and asked.retry - entry.callers[predecessor].retry or 0,
    entry.ended and 1 or 0,
    entry.number,
  }
end

local function is_better(entry, other, asked)
  local ours, theirs = preference(entry, asked), preference(other, asked)
  for number = 1, #ours do
    if ours[number] ~= theirs[number] then return ours[number] < theirs[number] end
  end
  return false
end

-- The job that this request belongs to, which has it for a caller from now on; nil if it needs one of its own.
local function attach_caller(record, asked)
  local found
  for _, entry in ipairs(read_entries(record)) do
    if entry.ends > now then
      if has_caller(entry, asked.caller) then return entry.job end
      if may_have(entry, asked) and (not found or is_better(entry, found, asked)) then found = entry end
    end
  end
  if not found then return nil end
  local is_late = not asked.attach and found.expects_first
  local predecessor = find_predecessor(found, asked)
  if predecessor then table.remove(found.callers, predecessor) end
  if #found.callers >= MAX_CALLERS then table.remove(found.callers, 1) end
  -- A first request that comes late has been given up already: it has no place that another retry could take.
  found.callers[#found.callers + 1] = {name = asked.caller, retry = is_late and NEVER or asked.retry}
  if is_late then found.expects_first = false end
  write_entry(record, found)
  return found.job
end

local function add_entry(record, asked, job)
  local entries, live, oldest, ended = read_entries(record), 0, nil, nil
  for _, entry in ipairs(entries) do
    if entry.ends > now then
      live, oldest = live + 1, oldest or entry
      if entry.ended then ended = ended or entry end
    end
  end
  if live >= MAX_ENTRIES then (ended or oldest).ends = now end
  local last = entries[#entries]
  entries[#entries + 1] = {
    job = job, number = last and last.number + 1 or 1, ends = now + asked.seconds, 
    callers = {{name = asked.caller, retry = asked.retry}},
    expects_first = asked.attach, ended = false, may_be_bought = false,
  }
  write_entry(record, entries[#entries])
  prune_entries(record, entries)
end

local function end_entry(record, job, seconds, may_be_bought)
  local entries = read_entries(record)
  for _, entry in ipairs(entries) do
    if entry.job == job then
      entry.ends, entry.ended, entry.may_be_bought = now + seconds, true, may_be_bought
      write_entry(record, entry)
    end
  end
  prune_entries(record, entries)
end

-- Takes callers off: those that are to go, of one job, or of all jobs of the body.
local function remove_callers(record, is_to_go, job)
  for _, entry in ipairs(read_entries(record)) do
    local left = {}
    for _, caller in ipairs(entry.callers) do
      if not is_to_go(caller.name) then left[#left + 1] = caller end
    end
    if #left < #entry.callers and (not job or entry.job == job) then
      entry.callers = left
      write_entry(record, entry)
    end
  end
end

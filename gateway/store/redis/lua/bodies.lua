-- All live jobs that one body was asked for with, oldest first: one packed list, read and written whole.
-- An entry: job, ends (moment), callers (name, retry), expects_first, ended, may_be_bought.
-- The same rules in Python: gateway/store/bodies.py
local MAX_ENTRIES, MAX_CALLERS, NEVER = 512, 16, 1000000

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

-- What is smaller is better; the first difference counts, and then age.
local function preference(entry, asked)
  local predecessor = find_predecessor(entry, asked)
  return (not asked.attach and entry.expects_first) and 0 or 1,
    #entry.callers == 0 and 0 or 1,
    predecessor and asked.retry - entry.callers[predecessor].retry or 0,
    entry.ended and 1 or 0
end

local function is_better(entry, other, asked)
  local awaits, occupied, distance, ended = preference(entry, asked)
  local awaits_there, occupied_there, distance_there, ended_there = preference(other, asked)
  if awaits ~= awaits_there then return awaits < awaits_there end
  if occupied ~= occupied_there then return occupied < occupied_there end
  if distance ~= distance_there then return distance < distance_there end
  return ended < ended_there
end

local function find_entry(entries, asked)
  local found
  for _, entry in ipairs(entries) do
    if has_caller(entry, asked.caller) then return entry end
    if may_have(entry, asked) and (not found or is_better(entry, found, asked)) then found = entry end
  end
  return found
end

-- Takes callers off: those that are to go, of those jobs. Whether there were any.
local function drop_callers(entries, is_to_go, is_meant)
  local is_changed = false
  for _, entry in ipairs(entries) do
    for number = is_meant(entry) and #entry.callers or 0, 1, -1 do
      if is_to_go(entry.callers[number].name) then
        table.remove(entry.callers, number)
        is_changed = true
      end
    end
  end
  return is_changed
end

-- A replica listens on a channel of its own, and a process that is killed loses its connections at once.
local listening = {}
local function is_listening(owner)
  if listening[owner] == nil then
    local told = redis.pcall('PUBSUB', 'NUMSUB', settings.replicas .. owner)
    listening[owner] = not told.err and tonumber(told[2]) > 0
  end
  return listening[owner]
end

-- Whether this caller's replica died with it. One that closed in good order has answered its callers, or taken them
-- off. Where the asking replica itself seems not to listen, the others cannot be judged.
local function has_died(name)
  local owner = string.match(name, '^(.*):')
  if not owner or owner == settings.owner or not is_listening(settings.owner) or is_listening(owner) then return false end
  return redis.call('EXISTS', settings.closed .. owner) == 0
end

-- Those of jobs that have ended may have been answered. A Cluster's servers know only their own listeners.
local function drop_dead_callers(entries)
  return settings.replicas and drop_callers(entries, has_died, function(entry) return not entry.ended end)
end

-- The job that this request belongs to, which has it for a caller from now on; nil if it needs one of its own.
local function attach_caller(record, asked)
  local entries = read_entries(record)
  local found = find_entry(entries, asked) or (drop_dead_callers(entries) and find_entry(entries, asked))
  if not found then return nil, entries end
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

local function add_entry(record, entries, asked, job)
  if #entries >= MAX_ENTRIES then
    local superfluous = 1
    for number = #entries, 1, -1 do
      if entries[number].ended then superfluous = number end
    end
    table.remove(entries, superfluous)
  end
  entries[#entries + 1] = {
    job = job, ends = now + asked.seconds, callers = {{name = asked.caller, retry = asked.retry}},
    expects_first = asked.attach, ended = false, may_be_bought = false,
  }
  write_entries(record, entries)
end

local function end_entry(record, job, seconds, may_be_bought)
  local entries = read_entries(record)
  for _, entry in ipairs(entries) do
    if entry.job == job then
      entry.ends, entry.ended, entry.may_be_bought = now + seconds, true, may_be_bought
      return write_entries(record, entries)
    end
  end
end

-- Of one job, or of all jobs of the body.
local function remove_callers(record, is_to_go, job)
  local entries = read_entries(record)
  local is_changed = drop_callers(entries, is_to_go, function(entry) return not job or entry.job == job end)
  if is_changed then write_entries(record, entries) end
end

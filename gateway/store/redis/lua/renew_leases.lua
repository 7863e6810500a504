-- Renews leases; answers with the jobs that are not the caller's any more.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local lost = {}
for number = 2, #KEYS do
  local id, fence = ARGV[number * 2 - 2], ARGV[number * 2 - 1]
  local seen = redis.call('HMGET', KEYS[number], 'fence', 'owner', 'rescues', 'claimed_at', 'longest')
  local due = seen[1] == fence and seen[2] ~= '' and redis.call('ZSCORE', KEYS[1], id)
  if due then
    local lived = seen[4] and math.floor((now - seen[4]) * 1000 + 0.5) / 1000
    local longest, is_suspected = tonumber(seen[5] or 0), tonumber(seen[3] or 0) > 0
    if lived then redis.call('HSET', KEYS[number], 'lived', lived) end
    if is_suspected and (longest == 0 or lived > 2 * (longest + settings.beat_seconds)) then
      redis.call('HSET', KEYS[number], 'rescues', 0)
      is_suspected = false
    end
    local ends = now + settings.lease
    redis.call('ZADD', KEYS[1], 'XX', moment(is_suspected and math.max(ends, tonumber(due)) or ends), id)
  else
    lost[#lost + 1] = id
  end
end
return lost

-- A job whose lease is over goes to whoever asks first. The token lets a repeated claim know itself.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
--include body_deduplication
local job, due, body, id, token = KEYS[1], KEYS[2], KEYS[3], ARGV[2], ARGV[3]
local score = redis.call('ZSCORE', due, id)
local seen = redis.call('HMGET', job, 'token', 'blob', 'owner', 'lived', 'longest')
if not seen[2] then return false end
if seen[1] ~= token then
  if not score or tonumber(score) > now then return false end
  -- Clients that waited at the owner before have lost their connections, unless it is the claimer itself.
  local former = (seen[3] or '') .. ':'
  if former ~= ':' and former ~= settings.owner .. ':' then
    redis.call('HSET', job, 'longest', math.max(tonumber(seen[4] or 0), tonumber(seen[5] or 0)))
    remove_callers(body, function(name) return string.sub(name, 1, #former) == former end, id)
  end
  redis.call('HINCRBY', job, 'fence', 1)
  -- The more owners crashed with it alone, the longer until the next claim.
  local alone = redis.call('HINCRBY', job, 'rescues', 1) - settings.early_deaths - 1
  local longest = math.max(settings.lease, settings.longest_lease)
  local lease = math.min(settings.lease * 2 ^ math.min(math.max(alone, 0), 64), longest)
  redis.call('HSET', job, 'owner', settings.owner, 'token', token, 'claimed_at', moment(now), 'lived', 0)
  redis.call('ZADD', due, 'XX', moment(now + lease), id)
end
return redis.call('HMGET', job, 'blob', 'fence', 'rescues', 'longest')

-- Records a replica's heartbeat, deletes old ones, and returns each replica with the seconds since its last heartbeat.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local heartbeats, ttl_seconds = KEYS[1], tonumber(ARGV[2])
redis.call('HSET', heartbeats, settings.replica_id, format_score(now))
local stored, ages = redis.call('HGETALL', heartbeats), {}
for index = 1, #stored, 2 do
  local age = math.max(0, now - tonumber(stored[index + 1]))
  if age > ttl_seconds then
    redis.call('HDEL', heartbeats, stored[index])
  else
    ages[#ages + 1] = stored[index]
    ages[#ages + 1] = format_score(age)
  end
end
return ages

-- Claims the audit of all partitions, unless a replica has claimed it within the interval.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local claim, interval = KEYS[1], tonumber(ARGV[2])
local claimed_at = redis.call('GET', claim)
if claimed_at and now < tonumber(claimed_at) + interval then return 0 end
redis.call('SET', claim, format_score(now), 'PX', format_integer(interval * 2000))
return 1

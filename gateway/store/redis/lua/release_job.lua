-- Gives a job away until its time comes.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local job, due, id, fence, seconds = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]
local seen = redis.call('HMGET', job, 'fence', 'owner', 'rescues')
if seen[1] ~= fence or seen[2] == '' or not redis.call('ZSCORE', due, id) then return 0 end
-- The owner that releases the job did not crash: its claim does not count.
redis.call('HSET', job, 'owner', '', 'rescues', math.max(0, tonumber(seen[3] or 0) - 1))
redis.call('HDEL', job, 'claimed_at', 'lived')
redis.call('ZADD', due, 'XX', moment(now + tonumber(seconds)), id)
return 1

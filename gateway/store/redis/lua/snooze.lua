-- Gives a job away until its time comes.
local settings = cmsgpack.unpack(ARGV[1])
--include time
local job, due, id, fence, seconds = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]
local seen = redis.call('HMGET', job, 'fence', 'owner')
if seen[1] ~= fence or seen[2] == '' or not redis.call('ZSCORE', due, id) then return 0 end
redis.call('HSET', job, 'owner', '')
redis.call('ZADD', due, 'XX', moment(now + tonumber(seconds)), id)
return 1

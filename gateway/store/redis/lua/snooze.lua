-- Gives a job away until its time comes.
local settings = cmsgpack.unpack(ARGV[1])
--include time
local job, due, id, fence, seconds = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]
if redis.call('HGET', job, 'fence') ~= fence or not redis.call('ZSCORE', due, id) then return 0 end
redis.call('HSET', job, 'owner', '')
redis.call('ZADD', due, 'XX', moment(now + tonumber(seconds)), id)
return 1

-- Gives a job away until its time comes.
local settings = cmsgpack.unpack(ARGV[1])
--include time
local job, due, id, fence, seconds = KEYS[1], KEYS[2], ARGV[2], ARGV[3], ARGV[4]
local seen = redis.call('HMGET', job, 'fence', 'owner')
if seen[1] ~= fence or seen[2] == '' or not redis.call('ZSCORE', due, id) then return 0 end
-- Given away by somebody who is well: nobody has died of it.
redis.call('HSET', job, 'owner', '', 'rescues', 0)
redis.call('ZADD', due, 'XX', moment(now + tonumber(seconds)), id)
return 1

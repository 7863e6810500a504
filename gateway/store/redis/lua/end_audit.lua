-- Ends an audit without repairs.
local audit, token = KEYS[1], ARGV[1]
if redis.call('SISMEMBER', audit, token) == 0 then return 0 end
return redis.call('DEL', audit)

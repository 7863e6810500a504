-- Begins an audit of a partition, unless another one is running. While `audit` exists, commits add their jobs to it.
-- An audit that is sent again recognises itself by its token.
local audit, token, ttl_seconds = KEYS[1], ARGV[1], ARGV[2]
if redis.call('SISMEMBER', audit, token) == 1 then return 1 end
if redis.call('EXISTS', audit) == 1 then return 0 end
redis.call('SADD', audit, token)
redis.call('EXPIRE', audit, ttl_seconds)
return 1

-- Begins an audit of a partition, unless another one is running. Returns the token of the one that runs. While `audit`
-- exists, commits add their jobs to it. An audit that is sent again recognises itself by its token.
local audit, token, ttl_seconds = KEYS[1], ARGV[1], ARGV[2]
if redis.call('SISMEMBER', audit, token) == 1 then return token end
for _, member in ipairs(redis.call('SMEMBERS', audit)) do
  if string.sub(member, 1, 6) == 'token:' then return member end
end
redis.call('SADD', audit, token)
redis.call('EXPIRE', audit, ttl_seconds)
return token

-- Records the ids of the servers' present runs, also if the memory is full.
redis.call('DEL', KEYS[1])
return redis.call('SADD', KEYS[1], unpack(ARGV))

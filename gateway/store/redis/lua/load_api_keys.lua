-- Returns the version and all API keys; nothing if the version is the known one.
local keys, version_key, known_version = KEYS[1], KEYS[2], ARGV[1]
local version = redis.call('GET', version_key) or ''
if version == known_version then
  return false
end
return {version, redis.call('HVALS', keys)}

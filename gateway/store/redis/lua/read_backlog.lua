-- Reads the backlog of a partition: the number of open jobs in each state, the age of the oldest job, and for how long the
-- most overdue job has been due. KEYS: open states, due, open. ARGV: the settings, then for each state its first score and
-- that of the next state.
local settings = cmsgpack.unpack(ARGV[1])
--include clock
local open_states, due, open_jobs = KEYS[1], KEYS[2], KEYS[3]
local counts, oldest_at = {}, now

-- Returns the score of the oldest job of a state. A job that an earlier version settled is still listed, and removed here.
local function find_oldest(first_score, next_score)
  while true do
    local oldest = redis.call('ZRANGEBYSCORE', open_states, first_score, next_score, 'WITHSCORES', 'LIMIT', 0, 1)
    if not oldest[1] or redis.call('SISMEMBER', open_jobs, oldest[1]) == 1 then return oldest[2] end
    redis.call('ZREM', open_states, oldest[1])
  end
end

for index = 2, #ARGV, 2 do
  local first_score, next_score = ARGV[index], '(' .. ARGV[index + 1]
  local oldest_score = find_oldest(first_score, next_score)
  if oldest_score then oldest_at = math.min(oldest_at, tonumber(oldest_score) - tonumber(first_score)) end
  counts[#counts + 1] = redis.call('ZCOUNT', open_states, first_score, next_score)
end
local first_due = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
local due_lag = math.max(0, now - tonumber(first_due[2] or now))
return {counts, format_score(now - oldest_at), format_score(due_lag)}

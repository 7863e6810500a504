-- Deletes a job and everything stored beside it.
local job, milestones, retention, team_jobs, job_id, list_member = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[2], ARGV[3]
redis.call('DEL', job, milestones)
redis.call('ZREM', retention, job_id)
redis.call('ZREM', team_jobs, list_member)
return 1

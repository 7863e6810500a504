-- Deletes a job and everything that is stored with it, except its ledger entries and its decision record.
-- ARGV: the settings, the job id, its member of the team's list, then the ids that its webhooks can have.
local job, milestones, retention, team_jobs, outbox, webhooks = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local job_id, list_member = ARGV[2], ARGV[3]
redis.call('DEL', job, milestones)
redis.call('ZREM', retention, job_id)
redis.call('ZREM', team_jobs, list_member)
for index = 4, #ARGV do
  local delivery_id = ARGV[index]
  redis.call('ZREM', outbox, delivery_id)
  redis.call('HDEL', webhooks, delivery_id, delivery_id .. '#attempts', delivery_id .. '#token')
end
return 1

-- Purpose: this worker can't run the job (it lacks the task, or its code is too old); another one may.
--          No attempt is used.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 delivery, 3 reason
-- Outcomes: 'waiting', 'paused' (nobody accepted it for too long), 'refused'
-- Sent again: the delivery is no longer the job's, so it is refused.

if job.status ~= 'queued' or job.attempt ~= tonumber(ARGV[1]) - 1 or job.delivery ~= ARGV[2] then return 'refused' end
local since = tonumber(redis.call('HGET', JOB, 'declined_since') or now)
if now - since >= $DECLINE_LIMIT_MS then
  enter('paused', ARGV[3], nil)
  redis.call('HDEL', JOB, 'declined_since')
else
  enter('waiting', ARGV[3], now + $DECLINE_PAUSE_MS)
  redis.call('HSET', JOB, 'declined_since', int(since))
end
return job.status

-- Purpose: a lease ran out and nobody knows more; another worker may go on.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt
-- Outcomes: 'queued', 'paused', 'cancelled', or 'refused' (renewed in time, or not this attempt's any more)
-- Sent again: the job is no longer running, so it is refused.

if job.status ~= 'running' or job.attempt ~= tonumber(ARGV[1]) then return 'refused' end
local due = redis.call('ZSCORE', AGENDA, job.id)
if due and tonumber(due) > now then return 'refused' end
local stop, why = job.stop, job.stop_reason
local old = RQ .. 'job:' .. job.delivery
if stop == 'cancel' then
  enter_final('cancelled', why)
elseif stop == 'pause' then
  enter('paused', why, nil)
else
  enter_queued('lease lost', true)
end
redis.call('DEL', old)
redis.call('HSET', JOB, 'holder', '', 'lost', int(job.lost + 1))
return job.status

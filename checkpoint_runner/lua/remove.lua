-- Purpose: take a job out of Redis with everything that belongs to it.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 job id, 2 'due' (its retention has passed) or 'asked' (a person wants it gone)
-- Outcomes: 'removed', 'gone', or the status that stands against it
-- Sent again: 'gone'.

local final = job.status == 'finished' or job.status == 'failed' or job.status == 'cancelled'
if ARGV[2] == 'due' then
  local due = redis.call('ZSCORE', AGENDA, ARGV[1])
  if job.status ~= '' and (not final or (due and tonumber(due) > now)) then return job.status end
elseif job.status == 'running' then
  return job.status
end
drop_delivery()
for _, at in ipairs({job.key_at, job.unique_at}) do
  if at ~= '' and redis.call('GET', at) == job.id then redis.call('DEL', at) end
end
redis.call('ZREM', AGENDA, ARGV[1])
for status in string.gmatch('queued running waiting paused finished failed cancelled', '%a+') do
  redis.call('ZREM', STATUS .. status, ARGV[1])
end
redis.call('DEL', JOB, STEPS, HISTORY)
return job.status == '' and 'gone' or 'removed'

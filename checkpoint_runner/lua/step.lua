-- Purpose: keep a step's result, once. On the hot path: no prelude.
-- KEYS: 1 job, 2 steps
-- ARGV: 1 attempt, 2 holder, 3 the step's path, 4 result, 5 how many results this makes in the job's life
-- Outcomes: a stop request ('pause', 'cancel' or ''), 'lost' or 'gone'
-- Sent again, or late: a number that is not new changes nothing.

local job = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'holder', 'stop', 'kept')
if not job[1] then return 'gone' end
if job[1] ~= 'running' or job[2] ~= ARGV[1] or job[3] ~= ARGV[2] then return 'lost' end
if tonumber(ARGV[5]) > tonumber(job[5] or 0) and redis.call('HSETNX', KEYS[2], ARGV[3], ARGV[4]) == 1 then
  redis.call('HSET', KEYS[1], 'kept', ARGV[5])
end
return job[4] or ''

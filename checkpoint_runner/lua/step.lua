-- Purpose: keep a step's result, once. On the hot path: no prelude.
-- KEYS: 1 job, 2 steps
-- ARGV: 1 attempt, 2 holder, 3 the step's path, 4 result
-- Outcomes: a stop request ('pause', 'cancel' or ''), 'lost' or 'gone'
-- Sent again: the result that is there stays.

local job = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'holder', 'stop')
if not job[1] then return 'gone' end
if job[1] ~= 'running' or job[2] ~= ARGV[1] or job[3] ~= ARGV[2] then return 'lost' end
if redis.call('HSETNX', KEYS[2], ARGV[3], ARGV[4]) == 1 then redis.call('HINCRBY', KEYS[1], 'kept', 1) end
return job[4] or ''

-- Purpose: hold on to a job. Frequent: no prelude.
-- KEYS: 1 job, 2 agenda
-- ARGV: 1 attempt, 2 holder, or the delivery and '|' (the parent knows no more), 3 lease in ms, 4 job id
-- Outcomes: a stop request ('pause', 'cancel' or ''), 'unclaimed', 'lost' or 'gone'
-- Sent again: a later expiry, no more.

local job = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'holder', 'stop')
if not job[1] then return 'gone' end
if job[1] == 'queued' and tonumber(job[2]) == tonumber(ARGV[1]) - 1 then return 'unclaimed' end
if job[1] ~= 'running' or job[2] ~= ARGV[1] or string.sub(job[3], 1, #ARGV[2]) ~= ARGV[2] then return 'lost' end
local time = redis.call('TIME')
local due = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[3])
redis.call('HDEL', KEYS[1], 'nothing')  -- a full server refuses ZADD as the first write
redis.call('ZADD', KEYS[2], string.format('%.0f', due), ARGV[4])
return job[4] or ''

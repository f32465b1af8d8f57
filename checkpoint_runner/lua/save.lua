-- Purpose: store a checkpoint. One round trip, on the hot path: no prelude.
-- KEYS: 1 job, 2 steps
-- ARGV: 1 attempt, 2 holder, 3 seq, 4 record, 5 progress, 6 checksum, 7... step results of finished items
-- Outcomes: a stop request ('pause', 'cancel' or ''), 'lost' or 'gone'
-- Sent again, or late: a record that is not newer than the stored one changes nothing.

local job = redis.call('HMGET', KEYS[1], 'status', 'attempt', 'holder', 'seq', 'stop')
if not job[1] then return 'gone' end
if job[1] ~= 'running' or job[2] ~= ARGV[1] or job[3] ~= ARGV[2] then return 'lost' end
if tonumber(ARGV[3]) > tonumber(job[4]) then
  redis.call('HSET', KEYS[1], 'seq', ARGV[3], 'record', ARGV[4], 'progress', ARGV[5], 'checksum', ARGV[6])
  for i = 7, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
end
return job[5] or ''

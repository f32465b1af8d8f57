-- Purpose: give the right to advance the job to one process; its attempt number is the fencing token.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 holder, 3 lease in ms, 4 version of the worker's code, 5 format of its records
-- Outcomes: {'claimed', task, version, arguments, seq, record, progress, checksum, step results,
--            crash streak, idle streak, results kept so far}, {'refused', status}, {'gone', ''}
-- Sent again: running with this attempt and this holder is claimed.

if job.status == '' then return {'gone', ''} end
local attempt, holder = tonumber(ARGV[1]), ARGV[2]
local again = job.status == 'running' and job.attempt == attempt and job.holder == holder
if not again then
  if job.status ~= 'queued' or job.attempt ~= attempt - 1 then return {'refused', job.status} end
  job.attempt = attempt
  enter('running', '', now + tonumber(ARGV[3]))
  redis.call('HDEL', JOB, 'declined_since')
  redis.call('HSET', JOB, 'version', ARGV[4], 'format', ARGV[5])
  redis.call('HSET', JOB, 'attempt', ARGV[1], 'holder', holder, 'claim_mark', int(mark()), 'claimed_at', int(now))
  redis.call('HSETNX', JOB, 'started_at', int(now))
  redis.call('HSET', TAKEN, job.queue, int(job.delivered_at) .. ' ' .. int(now))
end
local reply = redis.call('HMGET', JOB, 'task', 'version', 'arguments', 'seq', 'record', 'progress', 'checksum')
for i = 1, 7 do reply[i] = reply[i] or '' end
table.insert(reply, 1, 'claimed')
reply[9] = int(redis.call('HLEN', STEPS))
reply[10] = int(job.crash_streak)
reply[11] = int(job.idle_streak)
reply[12] = int(job.kept)
return reply

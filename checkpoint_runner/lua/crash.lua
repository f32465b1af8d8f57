-- Purpose: the process that had the delivery is known to be dead. Before the claim or after it, the
--          job goes on at once; after too many deaths in a row without progress it fails.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 delivery, 3 what killed it, 4 'crash', or the reason of an interruption that we
--       ended by force ourselves (then no crash is counted), or 'exit' (it ended by itself: a crash if it
--       had claimed the job, else a delivery that came to nothing), 5 the error of a crash loop
-- Outcomes: 'queued', 'failed', 'paused', 'cancelled', or 'refused' (not this attempt's any more)
-- Sent again: the holder is gone and the delivery another one, so it is refused.

local attempt, delivery = tonumber(ARGV[1]), ARGV[2]
local claimed = job.status == 'running' and job.attempt == attempt
                and string.sub(job.holder, 1, #delivery + 1) == delivery .. '|'
local unclaimed = job.status == 'queued' and job.attempt == attempt - 1 and job.delivery == delivery
if not claimed and not unclaimed then return 'refused' end

local stop, why = job.stop, job.stop_reason
local counted = ARGV[4] == 'crash' or (ARGV[4] == 'exit' and claimed)
local moved = mark() > job.crash_mark
local streak = job.crash_streak
if counted then streak = moved and 1 or streak + 1 end
local old = RQ .. 'job:' .. job.delivery
if stop == 'cancel' then
  enter_final('cancelled', why)
elseif counted and streak >= job.max_crashes then
  enter_final('failed', 'crash loop')
  redis.call('HSET', JOB, 'error', ARGV[5])
elseif stop == 'pause' then
  enter('paused', why, nil)
else
  enter_queued(counted and 'crash' or ARGV[4], not counted or streak <= 1)
end
if counted or ARGV[4] == 'exit' then
  redis.call('DEL', old)
else
  redis.call('EXPIRE', old, $DELIVERY_FAILURE_TTL)  -- a horse that hands over in a shutdown is still busy with it
end
redis.call('HSET', JOB, 'holder', '')
if counted then
  redis.call('HSET', JOB, 'crashes', int(job.crashes + 1), 'crash_streak', int(streak),
             'crash_mark', int(mark()), 'crash', ARGV[3])
else
  redis.call('HSET', JOB, 'interruptions', int(job.interruptions + 1),
             'idle_streak', mark() > job.claim_mark and '0' or int(job.idle_streak + 1))
end
return job.status

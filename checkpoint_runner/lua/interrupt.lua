-- Purpose: the attempt stopped at a safe place; the job goes on by itself, unless a person asked otherwise.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 holder, 3 seq, 4 record, 5 progress, 6 checksum, 7 reason, 8 '1' for the queue's front, 9... step results of finished items
-- Outcomes: 'queued', 'paused', 'cancelled', 'lost' or 'gone'; the present status if this holder let go before
-- Sent again: answered with the present status, nothing changes.

local outcome = guard(ARGV[1], ARGV[2])
if outcome == 'again' then return job.status end
if outcome ~= 'mine' then return outcome end
local stop, why = job.stop, job.stop_reason
local moved = math.max(tonumber(ARGV[3]) + job.kept, mark()) > job.claim_mark
if stop == 'cancel' then
  enter_final('cancelled', why)
elseif stop == 'pause' then
  enter('paused', why, nil)
else
  enter_queued(ARGV[7], ARGV[8] == '1')
  redis.call('HSET', JOB, 'interruptions', int(job.interruptions + 1),
             'idle_streak', moved and '0' or int(job.idle_streak + 1))
end
keep(ARGV[3], ARGV[4], ARGV[5], ARGV[6], 9)
return job.status

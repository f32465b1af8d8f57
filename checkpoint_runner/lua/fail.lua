-- Purpose: the function raised; a cancel that was asked for beats that.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 holder, 3 seq, 4 record, 5 progress, 6 checksum, 7 error, 8... step results of finished items
-- Outcomes: 'failed', 'cancelled', 'lost' or 'gone'; the present status if this holder let go before
-- Sent again: answered with the present status, nothing changes.

local outcome = guard(ARGV[1], ARGV[2])
if outcome == 'again' then return job.status end
if outcome ~= 'mine' then return outcome end
if job.stop == 'cancel' then enter_final('cancelled', job.stop_reason) else enter_final('failed', 'exception') end
keep(ARGV[3], ARGV[4], ARGV[5], ARGV[6], 8)
redis.call('HSET', JOB, 'error', ARGV[7])
return job.status

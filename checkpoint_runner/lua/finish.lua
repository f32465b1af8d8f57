-- Purpose: the function returned; nothing beats that.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 holder, 3 seq, 4 record, 5 progress, 6 checksum, 7 result
-- Outcomes: 'finished', 'lost' or 'gone'; the present status if this holder let go before
-- Sent again: answered with the present status, nothing changes.

local outcome = guard(ARGV[1], ARGV[2])
if outcome == 'again' then return job.status end
if outcome ~= 'mine' then return outcome end
enter_final('finished', '')
keep(ARGV[3], ARGV[4], ARGV[5], ARGV[6], #ARGV + 1)
redis.call('HSET', JOB, 'result', ARGV[7])
redis.call('DEL', STEPS)  -- a finished job is not run again
return 'finished'

-- Purpose: the attempt asks for a person (the task's own wish, or a checkpoint that can't be used);
--          a cancel that was asked for beats that.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt, 2 holder, 3 seq, 4 record, 5 progress, 6 checksum, 7 reason, 8... step results of finished items
-- Outcomes: 'paused', 'cancelled', 'lost' or 'gone'; the present status if this holder let go before
-- Sent again: answered with the present status, nothing changes.

local outcome = guard(ARGV[1], ARGV[2])
if outcome == 'again' then return job.status end
if outcome ~= 'mine' then return outcome end
if job.stop == 'cancel' then enter_final('cancelled', job.stop_reason) else enter('paused', ARGV[7], nil) end
keep(ARGV[3], ARGV[4], ARGV[5], ARGV[6], 8)
return job.status

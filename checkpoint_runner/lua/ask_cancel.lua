-- Purpose: a person wants the job ended for good; a running one is asked to stop at its next safe place.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 revision, 2 nonce, 3 reason
-- Outcomes: 'done', 'same' (nothing to do), 'moved', 'gone', or 'not now'
-- Sent again: the nonce is known, so it is done.

local outcome = request(ARGV[1], ARGV[2])
if outcome == 'again' then return 'done' end
if outcome ~= 'go' then return outcome end
if job.status == 'cancelled' or job.stop == 'cancel' then return 'same' end
if job.status == 'running' then
  request_stop('cancel', ARGV[3])
elseif job.status == 'queued' or job.status == 'waiting' or job.status == 'paused' then
  enter_final('cancelled', ARGV[3])
  drop_delivery()
else
  return 'not now'
end
remember(ARGV[2])
return 'done'

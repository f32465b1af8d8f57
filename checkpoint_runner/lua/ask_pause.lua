-- Purpose: a person wants the job paused; a running one is asked to stop at its next safe place.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 revision, 2 nonce, 3 reason
-- Outcomes: 'done', 'same' (nothing to do), 'moved', 'gone', or 'not now'
-- Sent again: the nonce is known, so it is done.

local outcome = request(ARGV[1], ARGV[2])
if outcome == 'again' then return 'done' end
if outcome ~= 'go' then return outcome end
if job.status == 'paused' or job.stop ~= '' then return 'same' end
if job.status == 'running' then
  request_stop('pause', ARGV[3])
elseif job.status == 'queued' or job.status == 'waiting' then
  enter('paused', ARGV[3], nil)
  drop_delivery()
else
  return 'not now'
end
remember(ARGV[2])
return 'done'

-- Purpose: a person lets a paused job go on; on a running one that was asked to pause, the wish is withdrawn.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 revision, 2 nonce
-- Outcomes: 'done', 'same' (nothing to do), 'moved', 'gone', or 'not now'
-- Sent again: the nonce is known, so it is done.

local outcome = request(ARGV[1], ARGV[2])
if outcome == 'again' then return 'done' end
if outcome ~= 'go' then return outcome end
if job.status == 'paused' then
  enter_queued('', false)
  redis.call('HDEL', JOB, 'declined_since')
elseif job.status == 'running' and job.stop == 'pause' then
  request_stop(nil)
elseif (job.status == 'running' and job.stop == '') or job.status == 'queued' or job.status == 'waiting' then
  return 'same'
else
  return 'not now'
end
remember(ARGV[2])
return 'done'

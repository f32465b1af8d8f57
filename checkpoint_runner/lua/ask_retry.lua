-- Purpose: a person lets a failed or cancelled job go on from its last checkpoint.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 revision, 2 nonce
-- Outcomes: 'done', 'moved', 'gone', 'not now', or 'taken' (another live job has its unique name)
-- Sent again: the nonce is known, so it is done.

local outcome = request(ARGV[1], ARGV[2])
if outcome == 'again' then return 'done' end
if outcome ~= 'go' then return outcome end
if job.status ~= 'failed' and job.status ~= 'cancelled' then return 'not now' end
if job.unique_at ~= '' then
  local rival = redis.call('GET', job.unique_at)
  if rival and rival ~= job.id then return 'taken' end
  redis.call('SET', job.unique_at, job.id)
end
for _, key in ipairs({JOB, STEPS, HISTORY}) do redis.call('PERSIST', key) end
if job.key_at ~= '' and redis.call('GET', job.key_at) == job.id then redis.call('PERSIST', job.key_at) end
enter_queued('retry', false)
redis.call('HDEL', JOB, 'error', 'ended_at', 'crash_streak', 'crash_mark', 'idle_streak', 'declined_since')
remember(ARGV[2])
return 'done'

-- Purpose: a waiting job is due.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: none
-- Outcomes: 'queued', or 'refused' (not waiting, or not due)
-- Sent again: the job is no longer waiting, so it is refused.

if job.status ~= 'waiting' then return 'refused' end
local due = redis.call('ZSCORE', AGENDA, job.id)
if due and tonumber(due) > now then return 'refused' end
enter_queued('', false)
return 'queued'

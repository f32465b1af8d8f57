-- Purpose: make a job, durable when this returns, and its first delivery; or find the one that is there.
-- KEYS: 1-7 as in prelude.lua; 8 the key's or '', 9 the unique name's or ''
-- ARGV: 1 id, 2 task, 3 version, 4 arguments, 5 digest of task and arguments, 6 queue, 7 delay in ms,
--       8 retention in ms, 9 max_crashes, 10 labels, 11 key, 12 unique
-- Outcomes: {'created', id}, {'existing', id}, {'conflict', id} (the key was used with other arguments)
-- Sent again: the id is new for each start, so a job of that id was made by this very call.

local ID, TASK = ARGV[1], ARGV[2]
if job.status ~= '' then return {'created', ID} end

local function prefix_of(key) return string.sub(JOB, 1, #JOB - #ID) .. key end

local namesake = KEYS[8] ~= '' and redis.call('GET', KEYS[8])
if namesake then
  local digest = redis.call('HGET', prefix_of(namesake), 'digest')
  if digest then return {digest == ARGV[5] and 'existing' or 'conflict', namesake} end
end
local rival = KEYS[9] ~= '' and redis.call('GET', KEYS[9])
if rival and redis.call('EXISTS', prefix_of(rival)) == 1 then return {'existing', rival} end

job.id, job.task, job.queue = ID, TASK, ARGV[6]
job.retention, job.unique_at = tonumber(ARGV[8]), KEYS[9]
redis.call('HSET', JOB, 'id', ID, 'task', TASK, 'version', ARGV[3], 'arguments', ARGV[4], 'digest', ARGV[5],
           'queue', ARGV[6], 'retention', ARGV[8], 'max_crashes', ARGV[9], 'labels', ARGV[10],
           'key', ARGV[11], 'unique', ARGV[12], 'key_at', KEYS[8], 'unique_at', KEYS[9],
           'attempt', '0', 'seq', '0', 'created_at', int(now))
if KEYS[8] ~= '' then redis.call('SET', KEYS[8], ID) end
if KEYS[9] ~= '' then redis.call('SET', KEYS[9], ID) end
if tonumber(ARGV[7]) > 0 then
  enter('waiting', 'delay', now + tonumber(ARGV[7]))
else
  enter_queued('', false)
end
return {'created', ID}

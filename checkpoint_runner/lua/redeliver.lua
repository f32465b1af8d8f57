-- Purpose: make good for a delivery that was lost between RQ's list and the claim.
-- KEYS: 1-7 as in prelude.lua
-- ARGV: 1 attempt that the delivery is for, 2 '1' where the list may be searched (that blocks the server)
-- Outcomes: 'redelivered', 'there', 'searched' (there, and the list was searched), 'refused'
-- Sent again: the new delivery's own check is not due yet, so it is refused.

if job.status ~= 'queued' or job.attempt ~= tonumber(ARGV[1]) - 1 then return 'refused' end
local due = redis.call('ZSCORE', AGENDA, job.id)
if due and tonumber(due) > now then return 'refused' end
local list = RQ .. 'queue:' .. job.queue
local lost, searched = redis.call('LLEN', list) == 0, false
if not lost and ARGV[2] == '1' then
  -- A later delivery was taken a while ago, or one that was made much later was taken: this one should have been.
  local taken = redis.call('HGET', TAKEN, job.queue)
  local delivered_at, taken_at = string.match(taken or '', '^(%d+) (%d+)$$')
  local later = delivered_at and tonumber(delivered_at) - job.delivered_at or 0
  if later > 0 and (later >= $DELIVERY_CHECK_MS or now - tonumber(taken_at) >= $DELIVERY_CHECK_MS) then
    searched = true
    lost = not redis.call('LPOS', list, job.delivery)
  end
end
lost = lost or redis.call('EXISTS', RQ .. 'job:' .. job.delivery) == 0
if lost then
  drop_delivery()
  job.revision = job.revision + 1
  redis.call('HSET', JOB, 'revision', int(job.revision))
  redis.call('ZADD', AGENDA, int(now + $DELIVERY_CHECK_MS), job.id)
  deliver(false)
  return 'redelivered'
end
redis.call('HDEL', JOB, 'nothing')  -- a full server refuses HSET as the first write
local pause = math.min((tonumber(redis.call('HGET', JOB, 'check_pause')) or 0) * 2, $DELIVERY_CHECK_MOST_MS)
redis.call('HSET', JOB, 'check_pause', int(pause))
redis.call('ZADD', AGENDA, int(now + pause), job.id)
return searched and 'searched' or 'there'

-- Shared by every transition (save, step and renew do without it: they are on the hot path; so do read and due).
-- KEYS 1 job, 2 steps, 3 history, 4 agenda, 5 prefix of the status sets, 6 RQ's prefix, 7 taken.
-- The words in capitals behind a dollar sign are filled in from keys.py and payload.py.

local JOB, STEPS, HISTORY, AGENDA, STATUS, RQ, TAKEN = unpack(KEYS, 1, 7)

local function int(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local now = clock()

-- What the transitions decide by; one read, numbers as numbers.
local job = {}
do
  local names = {'id', 'status', 'task', 'queue', 'holder', 'delivery', 'stop', 'stop_reason', 'unique_at',
                 'key_at', 'nonces', 'attempt', 'revision', 'seq', 'kept', 'claim_mark', 'retention', 'max_crashes',
                 'crashes', 'crash_streak', 'crash_mark', 'lost', 'interruptions', 'idle_streak', 'delivered_at'}
  local values = redis.call('HMGET', JOB, unpack(names))
  for i, name in ipairs(names) do
    job[name] = values[i] or (i <= 11 and '' or '0')
    if i > 11 then job[name] = tonumber(job[name]) or 0 end
  end
end

-- How far the job is, as a number that only grows: checkpoints stored and step results kept.
local function mark()
  return job.seq + job.kept
end

-- 'gone', 'lost' (somebody else's by now), 'mine', or 'again' (this holder let go before: sent twice).
local function guard(attempt, holder)
  if job.status == '' then return 'gone' end
  if job.attempt ~= tonumber(attempt) or job.holder ~= holder or holder == '' then return 'lost' end
  if job.status ~= 'running' then return 'again' end
  return 'mine'
end

-- A person's request, sent with the revision it was made for and a nonce of its own:
-- 'gone', 'again' (this very request was carried out before), 'moved' (look again), or 'go'.
local function request(revision, nonce)
  if job.status == '' then return 'gone' end
  if string.find(' ' .. job.nonces .. ' ', ' ' .. nonce .. ' ', 1, true) then return 'again' end
  if job.revision ~= tonumber(revision) then return 'moved' end
  return 'go'
end

-- The calendar's date of a moment, in the form in which RQ writes it (days to date after
-- Howard Hinnant's civil_from_days).
local function iso(ms)
  local seconds = math.floor(ms / 1000)
  local days = math.floor(seconds / 86400) + 719468
  local era = math.floor(days / 146097)
  local doe = days - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local rest = seconds % 86400
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day, math.floor(rest / 3600),
                       math.floor(rest / 60) % 60, rest % 60, (ms % 1000) * 1000)
end

-- A delivery that wakes up no one any more. One that a live horse is still busy with is RQ's to remove.
local function drop_delivery()
  if job.delivery ~= '' then redis.call('DEL', RQ .. 'job:' .. job.delivery) end
end

-- Make the job's next delivery: RQ's own hash and list entry.
-- The revision makes the id one that was never used before.
local function deliver(front)
  if job.delivery ~= '' then redis.call('EXPIRE', RQ .. 'job:' .. job.delivery, $DELIVERY_FAILURE_TTL) end
  local delivery = job.id .. '-' .. int(job.attempt + 1) .. '-' .. int(job.revision)
  local list = RQ .. 'queue:' .. job.queue
  redis.call('HSET', RQ .. 'job:' .. delivery, 'status', 'queued', 'created_at', iso(now), 'data', $PAYLOAD,
             'success_callback_name', '', 'failure_callback_name', '', 'stopped_callback_name', '',
             'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '', 'group_id', '',
             'origin', job.queue, 'description', job.task, 'enqueued_at', iso(now),
             'timeout', '-1', 'result_ttl', '0', 'failure_ttl', '$DELIVERY_FAILURE_TTL')
  redis.call('SADD', RQ .. 'queues', list)
  redis.call(front and 'LPUSH' or 'RPUSH', list, delivery)
  job.delivery = delivery
  redis.call('HSET', JOB, 'delivery', delivery, 'delivered_at', int(now), 'check_pause', '$DELIVERY_CHECK_MS')
end

-- Take the job into another status. `due` is when the agenda looks at it next (nil: never).
-- The first write takes memory away, so that a full server lets a job go [OOM refuses HSET first].
local function enter(status, reason, due)
  redis.call('HDEL', JOB, 'stop', 'stop_reason')
  if job.status ~= '' then redis.call('ZREM', STATUS .. job.status, job.id) end
  job.revision = job.revision + 1
  redis.call('HSET', JOB, 'status', status, 'reason', reason, 'revision', int(job.revision))
  redis.call('ZADD', STATUS .. status, int(now), job.id)
  if due then redis.call('ZADD', AGENDA, int(due), job.id) else redis.call('ZREM', AGENDA, job.id) end
  redis.call('RPUSH', HISTORY, table.concat({int(now), job.status, status, int(job.attempt), reason}, '|'))
  redis.call('LTRIM', HISTORY, -$HISTORY_LENGTH, -1)
  job.status = status
end

local function enter_queued(reason, front)
  enter('queued', reason, now + $DELIVERY_CHECK_MS)
  deliver(front)
end

local function enter_final(status, reason)
  enter(status, reason, now + job.retention)
  redis.call('HSET', JOB, 'ended_at', int(now))
  if job.unique_at ~= '' and redis.call('GET', job.unique_at) == job.id then redis.call('DEL', job.unique_at) end
  local net = int(job.retention + $RETENTION_NET_MS)
  for _, key in ipairs({JOB, STEPS, HISTORY}) do redis.call('PEXPIRE', key, net) end
  if job.key_at ~= '' and redis.call('GET', job.key_at) == job.id then redis.call('PEXPIRE', job.key_at, net) end
end

-- Keep the newest record, unless a newer one is there. From ARGV[first] on stand the step results that
-- its position has passed.
local function keep(seq, record, progress, checksum, first)
  if tonumber(seq) > job.seq then
    redis.call('HSET', JOB, 'seq', seq, 'record', record, 'progress', progress, 'checksum', checksum)
    job.seq = tonumber(seq)
    for i = first, #ARGV do redis.call('HDEL', STEPS, ARGV[i]) end
  end
end

-- Ask the running attempt to stop, or (nil) no longer; a new revision, so that a late request is stale.
local function request_stop(verb, reason)
  redis.call('HDEL', JOB, 'stop', 'stop_reason')
  if verb then redis.call('HSET', JOB, 'stop', verb, 'stop_reason', reason) end
  redis.call('HSET', JOB, 'revision', int(job.revision + 1))
end

local function remember(nonce)
  local nonces = {nonce}
  for old in string.gmatch(job.nonces, '%S+') do
    if #nonces < $NONCES then nonces[#nonces + 1] = old end
  end
  redis.call('HSET', JOB, 'nonces', table.concat(nonces, ' '))
end

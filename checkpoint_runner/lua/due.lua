-- Purpose: elect one sweep among all, and tell it which jobs are due.
-- KEYS: 1 agenda, 2 sweep, 3 the prefix of the jobs' hashes
-- ARGV: 1 pause between two sweeps in ms, 2 lease in ms, 3 most jobs
-- Outcomes: {} (somebody swept just now), or {'1' where no lease expires now else '0', id, status, attempt, ...}
-- Sent again: not elected.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local pause, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local state = redis.call('HMGET', KEYS[2], 'swept_at', 'hold_until')
local swept_at, hold_until = tonumber(state[1] or 0), tonumber(state[2] or 0)
local gap = now - swept_at
if gap >= 0 and gap < pause then return {} end
-- Nobody looked for a while, or the clock jumped: what seems expired may have had no chance to renew.
if gap < 0 or gap > math.max(lease / 2, 2 * pause) then hold_until = now + lease end
hold_until = math.min(hold_until, now + lease)
redis.call('HDEL', KEYS[2], 'hold_until')  -- a full server refuses HSET as the first write
redis.call('HSET', KEYS[2], 'swept_at', string.format('%.0f', now), 'hold_until', string.format('%.0f', hold_until))
local reply = {now < hold_until and '1' or '0'}
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  local job = redis.call('HMGET', KEYS[3] .. id, 'status', 'attempt')
  reply[#reply + 1] = id
  reply[#reply + 1] = job[1] or ''
  reply[#reply + 1] = job[2] or '0'
end
return reply

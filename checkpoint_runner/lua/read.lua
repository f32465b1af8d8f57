-- Purpose: one moment's view of a job; "running" is said only while a lease is alive.
-- KEYS: 1 job, 2 agenda
-- ARGV: 1 job id, 2... names of fields
-- Outcomes: {now in ms, due in ms or '', values...}, or {} where there is no such job
-- Sent again: reads again, nothing changes.

if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local reply = {now, redis.call('ZSCORE', KEYS[2], ARGV[1]) or ''}
local values = redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
for i = 1, #ARGV - 1 do reply[i + 2] = values[i] or '' end
return reply

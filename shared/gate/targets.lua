-- The targets by the time of their last call. Clients name the models, so only the last called ones are kept.
-- KEYS  1 zset
-- ARGV  now (ms; '' = Redis's clock), the called target, the number to keep
-- Returns the targets that were removed because there are too many.
local DAY_MS = 86400000
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - DAY_MS)
redis.call('PEXPIRE', KEYS[1], DAY_MS)
local last = -(ARGV[3] + 1)
local out = redis.call('ZRANGE', KEYS[1], 0, last)
if #out > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, last) end
return out

-- The outcome of a permit. `old`: it was granted before Redis lost the state, so its sub-window and epoch do not apply.

-- Our sums must leave no more than the provider says remains. The difference is other use of the same account: it is added
-- to the sub-window that leaves when the provider's count is back at its limit. It is a difference, so running calls, which
-- the sums contain already, do not count twice, and a repeated answer changes nothing.
local function noteHeaders(headers)
  for d = 1, 4 do
    local of, remaining, resetMs = headers[d * 3 - 2], headers[d * 3 - 1], headers[d * 3]
    if of > 0 and configured[d + 6] ~= of then
      configured[d + 6] = of
      limitsChanged = true
      effective()
    end
    if remaining >= 0 and resetMs > 0 and limit[d] >= 0 then
      local missing = limit[d] - P[d] - remaining
      if missing > 0 then
        local n = { 0, 0, 0, 0 }
        n[d] = missing
        add(head - WINDOW + min(WINDOW, max(1, math.ceil(resetMs / SUB))), n)
      end
    end
  end
end

local SLOW_MARK_MS = 3600000 -- outlives any call

local function report(id, leaseId, old, e, input, output, epoch, result, latency, realInput, realOutput, retryAfter, headers)
  if not unlease(leaseId, old, id) then return end
  local slowed = slows > 0 and call('ZREM', SWEEP, 's:' .. leaseId) == 1
  if slowed then slows = slows - 1 end
  if not old then
    local i = realInput and realInput - input or 0
    local o = realOutput and realOutput - output or 0
    if i ~= 0 or o ~= 0 then add(e, { 0, i + o, i, o }) end
  end
  if retryAfter then
    breaker[8] = max(breaker[8], now + min(retryAfter, MAX_PAUSE_MS))
    breakerChanged = true
  end
  if headers ~= '' then noteHeaders(cjson.decode(headers)) end
  if result == 'n' then return endProbe(leaseId) end
  local ok = result == 's'
  if ok then noteLatency(latency) end
  if slowed then return end
  noteHealth(ok)
  if not old then noteResult(leaseId, epoch, ok) end
end

local function release(id, leaseId, old, e, input, output)
  if not unlease(leaseId, old, id) then return end
  endProbe(leaseId)
  if slows > 0 and call('ZREM', SWEEP, 's:' .. leaseId) == 1 then slows = slows - 1 end
  if not old then add(e, { -1, -input - output, -input, -output }) end
end

local function slow(id, leaseId, old, epoch)
  if not call('ZSCORE', LEASES, leaseId) then return end
  if call('ZADD', SWEEP, 'NX', now + SLOW_MARK_MS, 's:' .. leaseId) == 0 then return end
  keep(SWEEP)
  slows = slows + 1
  noteHealth(false)
  if not old then noteResult(leaseId, epoch, false) end
end

local function renew(id, leaseId, old)
  if old then
    -- Redis lost the lease; its holder is alive.
    call('ZREM', LEASES, id .. ':seeded')
    call('ZADD', LEASES, now + LEASE_MS, leaseId)
  else
    call('ZADD', LEASES, 'XX', now + LEASE_MS, leaseId)
  end
  leased = nil
end

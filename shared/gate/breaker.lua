-- The circuit breaker, and the health that routing uses. OPEN_MS, FAILURES_IN_A_ROW and PROBE_SUCCESSES are those of
-- outcomes.ts.
local LAST_RESULTS = 20
local MIN_RESULTS = 10
local HEALTH_HALF_LIFE_MS = 60000
local LATENCIES = 20

local function open()
  -- A new epoch: calls admitted before it no longer count.
  breaker = { OPEN, now + OPEN_MS, breaker[3] + 1, 0, 0, '', '', breaker[8] }
  breakerChanged = true
end

local function halfOpen()
  if breaker[1] ~= OPEN then return end
  breaker[1], breaker[5], breaker[6] = HALF, 0, ''
  breakerChanged = true
end

-- nil if a call may pass; else the ms until the next try.
local function closedFor()
  if breaker[1] == CLOSED then return nil end
  if breaker[1] == OPEN then
    if now < breaker[2] then return breaker[2] - now end
    halfOpen()
  end
  if breaker[6] == '' then return nil end
  local expiry = tonumber(call('ZSCORE', LEASES, breaker[6]) or 0)
  if expiry > now then return min(1000, expiry - now) end
  breaker[6] = '' -- the probe's holder died
  breakerChanged = true
  return nil
end

local function noteResult(id, epoch, ok)
  if breaker[1] == HALF then
    if breaker[6] ~= id then return end
    if not ok then return open() end
    breaker[6] = ''
    breaker[5] = breaker[5] + 1
    if breaker[5] >= PROBE_SUCCESSES then
      breaker = { CLOSED, 0, breaker[3], 0, 0, '', '', breaker[8] }
    end
    breakerChanged = true
  elseif breaker[1] == CLOSED and epoch == breaker[3] then
    breaker[4] = ok and 0 or breaker[4] + 1
    breaker[7] = (breaker[7] .. (ok and '1' or '0')):sub(-LAST_RESULTS)
    breakerChanged = true
    if ok then return end
    local _, failures = breaker[7]:gsub('0', '')
    local results = #breaker[7]
    if breaker[4] >= FAILURES_IN_A_ROW or (results >= MIN_RESULTS and failures * 2 > results) then open() end
  end
end

-- A neutral probe makes room for the next one.
local function endProbe(id)
  if breaker[1] ~= HALF or breaker[6] ~= id then return end
  breaker[6] = ''
  breakerChanged = true
end

local function healthNow() return 1 - (1 - health[2]) * 2 ^ (-(now - health[3]) / HEALTH_HALF_LIFE_MS) end

local function noteHealth(ok)
  local x = ok and 1 or 0
  local h = healthNow()
  health[1] = health[1] + 0.1 * (x - health[1])
  health[2] = h + 0.2 * (x - h)
  health[3] = now
  healthChanged = true
end

-- The p95 by nearest rank: of twenty the second largest, of fewer the largest.
local function noteLatency(ms)
  health[4] = health[4] < 0 and ms or health[4] + 0.1 * (ms - health[4])
  local last = health[6]
  last[#last + 1] = ms
  if #last > LATENCIES then table.remove(last, 1) end
  local most, second = -1, -1
  for k = 1, #last do
    local one = last[k]
    if one > most then
      most, second = one, most
    elseif one > second then
      second = one
    end
  end
  health[5] = #last == LATENCIES and second or most
  healthChanged = true
end

local function slowAfter()
  if health[5] < 0 then return 30000 end
  return max(2000, floor(4 * health[5]))
end

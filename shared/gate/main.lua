-- The operations, in the given order, and one answer for each. Returns { generation, wakes, ms of the state (0: it was not
-- written), answer, ... }, or { '', mark, ms since it was set } if the target is not seeded.
local position = 12
local function text()
  position = position + 1
  return ARGV[position - 1]
end
local function number() return tonumber(text()) end
local function fromBefore() return text() ~= gen end

if not gen and ARGV[12] == 's' then
  position = 13
  local mark = text()
  -- Redis lost the state again after the ledger was read, which may miss calls admitted in between.
  if call('HGET', STATE, 'mark') ~= mark then return { 0 } end
  call('DEL', STATE, LEASES, QUEUE, SWEEP)
  gen = mark
  fresh()
  effective()
  setLimits(2)
  for _ = 1, number() do
    local age, requests, input, output = number(), number(), number(), number()
    add(min(head, floor((now - age) / SUB)), { requests, input + output, input, output })
  end
  for _ = 1, number() do call('ZADD', LEASES, now + LEASE_MS, text() .. ':seeded') end
  -- A value of more than 64 bytes makes Redis keep the hash as a table; as a list every access would search it.
  call('HSET', STATE, 'gen', gen, 'history', history, 'about', 'The state of the gate for one provider and model. See shared/gate/state.lua.')
  save(true)
  return { 1 }
end

if not gen then
  if ARGV[8] ~= '' then
    call('HSETNX', STATE, 'mark', ARGV[8])
    call('HSETNX', STATE, 'markAt', now)
    call('HSET', STATE, 'history', history)
    call('PEXPIRE', STATE, DAY_MS)
    local mark = call('HMGET', STATE, 'mark', 'markAt')
    return { '', mark[1], max(0, now - tonumber(mark[2])) }
  end
  return { '', '', 0 }
end
if ARGV[12] == 's' then return { 1 } end

-- Describing changes nothing, so that a target that is only described expires. Members that are due are swept, because they
-- would be counted.
local describes = true
for k = 12, #ARGV do
  if ARGV[k] ~= 'd' then
    describes = false
    break
  end
end
local writes = not describes or isDue()

effective()
setLimits(2)
advance(writes)
if writes then sweep() end

local answers = { gen, {}, writes and at or 0 }
local listens = false -- whether a caller will wake the waiters
while position <= #ARGV do
  local operation = text()
  local answer = 0
  if operation == 'a' then
    local id, leaseId, input, output, maxWait, lane, wake = text(), text(), number(), number(), number(), text(), text()
    answer = acquire(id, leaseId, input, output, maxWait, lane == 'b', wake)
  elseif operation == 'r' then
    local id, leaseId, old, e, input, output = text(), text(), fromBefore(), number(), number(), number()
    local epoch, result, latency, realInput, realOutput = number(), text(), number(), number(), number()
    report(id, leaseId, old, e, input, output, epoch, result, latency, realInput, realOutput, number(), text())
    listens = true
  elseif operation == 'u' then
    release(text(), text(), fromBefore(), number(), number(), number())
    listens = true
  elseif operation == 'w' then
    slow(text(), text(), fromBefore(), number())
  elseif operation == 'n' then
    renew(text(), text(), fromBefore())
  elseif operation == 'h' then
    halfOpen()
    listens = true
  elseif operation == 'l' then
    setLimits(position)
    position = position + 6
    listens = true
  else
    local state, retry = breaker[1], 0
    if state == OPEN then
      retry = max(0, breaker[2] - now)
      if retry == 0 then state = HALF end
    end
    answer = {
      state, retry, max(0, breaker[8] - now), floor(health[1] * 1e6), floor(healthNow() * 1e6), floor(health[4]), health[5],
      P[1], P[2], P[3], P[4], inUse(), limit[1], limit[2], limit[3], limit[4], limit[5], tickets, bookings,
    }
  end
  answers[#answers + 1] = answer
end
if listens then answers[2] = woken() end
if writes then save(not describes) end
return answers

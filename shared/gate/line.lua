-- Concurrency: leases, and the line of those that wait for one. With k slots free the first k tickets of the line may
-- come, so that a freed slot is kept for its waiter without a record of its own; a ticket whose holder does not come in
-- time is swept.
local GRACE_MS = 3000 -- how much later than told a waiter may come back before its ticket is void
local HOLD_MS = 2000 -- how long a slot is kept for a waiter that was woken
local MOST_WOKEN = 50

local leased = nil -- counted when first asked for
local function inUse()
  if not leased then leased = call('ZCOUNT', LEASES, '(' .. now, '+inf') end
  return leased
end

local function lease(id)
  local added = call('ZADD', LEASES, now + LEASE_MS, id)
  if leased then leased = leased + added end
  keep(LEASES)
end

local function unlease(id, old, task)
  local n = call('ZREM', LEASES, id)
  -- Taken before Redis forgot: seeded under the task's id.
  if old then n = n + call('ZREM', LEASES, task .. ':seeded') end
  if n == 0 then return false end
  leased = nil
  return true
end

local function writeTicket(id, number, isNew, wake, ms)
  if isNew then
    call('ZADD', QUEUE, number, id)
    tickets = tickets + 1
    keep(QUEUE)
  end
  call('HSET', STATE, 't:' .. id, '0' .. wake)
  sweepAt(now + ms + GRACE_MS, 't:' .. id)
end

local function dropTicket(id)
  call('ZREM', QUEUE, id)
  call('HDEL', STATE, 't:' .. id)
  call('ZREM', SWEEP, 't:' .. id)
  tickets = tickets - 1
end

-- What nobody came back for.
local function sweep()
  if tickets + bookings + slows == 0 then return end
  for _, member in ipairs(call('ZRANGEBYSCORE', SWEEP, '-inf', now, 'LIMIT', 0, 200)) do
    local kind, id = member:sub(1, 1), member:sub(3)
    if kind == 't' then
      dropTicket(id)
    elseif kind == 'b' then
      local booking = readBooking(id)
      if booking then dropBooking(id, booking) end
    else
      call('ZREM', SWEEP, member)
      slows = slows - 1
    end
  end
end

-- The waiters that may come now and have not been told.
local function woken()
  local wakes = {}
  if tickets == 0 or breaker[8] > now or breaker[1] == OPEN then return wakes end
  local free = min(tickets, MOST_WOKEN)
  if limit[5] >= 0 then free = min(free, limit[5] - inUse()) end
  if breaker[1] == HALF then free = min(free, breaker[6] == '' and 1 or 0) end
  if free <= 0 then return wakes end
  for _, id in ipairs(call('ZRANGE', QUEUE, 0, free - 1)) do
    local wake = call('HGET', STATE, 't:' .. id)
    if wake and wake:sub(1, 1) == '0' then
      call('HSET', STATE, 't:' .. id, '1' .. wake:sub(2))
      sweepAt(now + HOLD_MS, 't:' .. id)
      wakes[#wakes + 1] = wake:sub(2)
    end
  end
  return wakes
end

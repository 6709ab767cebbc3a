-- Concurrency: leases, and the queue of the requests that wait for one. With k free slots, the first k tickets may retry: a
-- freed slot is kept for its waiter without a record of its own. A ticket whose holder does not return in time is overdue:
-- it no longer blocks others, but its number is kept for a while, so that a request that is always late gets its turn.
local GRACE_MS = 2000 -- how late a waiter may return before its ticket is overdue
local OVERDUE_MS = 60000
local HOLD_MS = 2000 -- how long a slot is kept for a woken waiter
local MAX_WOKEN = 50

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
  -- Granted before Redis lost the state: seeded under the task's id.
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

local function readOverdue(id)
  return overdue > 0 and tonumber(call('HGET', STATE, 'o:' .. id) or nil) or nil
end

local function dropOverdue(id)
  call('HDEL', STATE, 'o:' .. id)
  call('ZREM', SWEEP, 'o:' .. id)
  overdue = overdue - 1
end

local function isDue()
  return tickets + overdue + bookings + slows > 0 and call('ZCOUNT', SWEEP, '-inf', now) > 0
end

-- Removes tickets and bookings whose holders have not returned.
local function sweep()
  if tickets + overdue + bookings + slows == 0 then return end
  for _, member in ipairs(call('ZRANGEBYSCORE', SWEEP, '-inf', now, 'LIMIT', 0, 200)) do
    local kind, id = member:sub(1, 1), member:sub(3)
    if kind == 't' then
      call('HSET', STATE, 'o:' .. id, call('ZSCORE', QUEUE, id))
      sweepAt(now + OVERDUE_MS, 'o:' .. id)
      overdue = overdue + 1
      dropTicket(id)
    elseif kind == 'o' then
      dropOverdue(id)
    elseif kind == 'b' then
      local booking = readBooking(id)
      if booking then dropBooking(id, booking) end
    else
      call('ZREM', SWEEP, member)
      slows = slows - 1
    end
  end
end

-- The waiters that may retry now and have not been woken.
local function woken()
  local wakes = {}
  if tickets == 0 or breaker[8] > now or breaker[1] == OPEN then return wakes end
  local free = min(tickets, MAX_WOKEN)
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

-- One decision. Returns { GO, sub-window, epoch, slowAfterMs }, { WAIT, ms, reason }, { SHUT, ms, reason } or
-- { NEVER, which limit }; the numbers' meaning is in wire.ts.
local GO, WAIT, SHUT, NEVER = 1, 2, 3, 4
local RATE, CONCURRENCY = 1, 2
local BREAKER, PAUSE, TOO_LATE, BATCH = 1, 2, 3, 4
local BATCH_AHEAD_MS = 1000
local MAX_BATCH_WAIT_MS = 10000

local function acquire(id, leaseId, input, output, maxWait, batch, wake)
  local n = { 1, input + output, input, output }
  local booking = readBooking(id)
  local ticket = tickets > 0 and tonumber(call('ZSCORE', QUEUE, id) or nil) or nil
  local number = ticket or readOverdue(id)
  if number and not ticket then dropOverdue(id) end

  local function refuse(answer)
    if booking then dropBooking(id, booking) end
    if ticket then dropTicket(id) end
    return answer
  end

  for d = 1, 4 do
    if limit[d] == 0 or (limit[d] > 0 and n[d] > limit[d]) then return refuse({ NEVER, d }) end
  end
  if limit[5] == 0 then return refuse({ NEVER, 5 }) end
  if breaker[8] > now then return refuse({ SHUT, breaker[8] - now, PAUSE }) end
  local shut = closedFor()
  if shut then return refuse({ SHUT, shut, BREAKER }) end

  -- A booking is a promise that only calls already made may break. A request with a stored booking passes if the calls of
  -- the last window leave room, whatever is booked ahead: otherwise two requests that are always late would push each other
  -- back for ever.
  local promised = booking ~= nil
  if not number and booking and booking.ticket > 0 then number = booking.ticket end
  if booking then
    if booking.at > head then
      if ticket then dropTicket(id) end
      return { WAIT, booking.at * SUB - now, RATE }
    end
    local same = booking.n[3] == input and booking.n[4] == output
    if not same or head - booking.at > LATE or not stillFits(booking.at) then
      dropBooking(id, booking)
      booking = nil
    end
  end

  if limit[5] >= 0 then
    local free = limit[5] - inUse()
    local rank = tickets
    if ticket then
      rank = call('ZRANK', QUEUE, id)
    elseif number and tickets > 0 then
      rank = call('ZCOUNT', QUEUE, '-inf', '(' .. number)
    end
    if rank >= free then
      local ms = min(1000, 200 + 50 * rank)
      -- A request that will not wait must not queue ahead of later ones.
      if not number and not booking and maxWait < ms then return refuse({ SHUT, ms, TOO_LATE }) end
      -- The request keeps its booking while it waits for a slot.
      if booking and booking.at < head then
        dropBooking(id, booking)
        local e = fits(P, n) and head or booking.at
        add(e, n)
        writeBooking(id, e, n, booking.ticket)
      end
      if not number then
        lastTicket = lastTicket + 1
        number = lastTicket
      end
      writeTicket(id, number, not ticket, wake, ms)
      return { WAIT, ms, CONCURRENCY }
    end
  end

  local e = head
  if booking then
    e = booking.at
    eraseBooking(id)
  elseif promised and fits(P, n) or fitsNow(n) then
    add(head, n)
  else
    local slot, sums = promised and slip(n), nil
    if not slot then slot, sums = findSlot(n) end
    local ms = slot * SUB - now
    if batch and ms > BATCH_AHEAD_MS then
      return refuse({ SHUT, min(MAX_BATCH_WAIT_MS, max(SUB, ms - BATCH_AHEAD_MS)), BATCH })
    end
    if ms > maxWait then return refuse({ SHUT, ms, TOO_LATE }) end
    book(id, n, slot, sums, number or 0)
    -- A ticket at the head of the queue would keep a slot free meanwhile; the booking keeps its number.
    if ticket then dropTicket(id) end
    return { WAIT, ms, RATE }
  end

  if ticket then dropTicket(id) end
  lease(leaseId)
  if breaker[1] == HALF then
    breaker[6] = leaseId
    breakerChanged = true
  end
  return { GO, e, breaker[3], slowAfter() }
end

-- The sliding window of requests and tokens, with bookings in the sub-windows ahead.

local function read(from, to)
  local fields, n = {}, 0
  for e = from, to do
    if not subs[e] then
      n = n + 1
      fields[n] = e
    end
    if n == 500 or (e == to and n > 0) then
      local values = call('HMGET', STATE, unpack(fields))
      for k = 1, n do
        subs[fields[k]] = values[k] and { unpackMessage(values[k]) } or { 0, 0, 0, 0 }
      end
      fields, n = {}, 0
    end
  end
end

local function fits(sums, n)
  for d = 1, 4 do
    if limit[d] >= 0 and sums[d] + n[d] > limit[d] then return false end
  end
  return true
end

local NOTHING = { 0, 0, 0, 0 }

-- Adds to a sub-window and to every sum that contains it. A sub-window that has left the window is not corrected.
local function add(e, n)
  if e <= head - WINDOW then return end
  if not subs[e] then read(e, e) end
  local s = subs[e]
  local ahead = tail > head and e <= tail and e > tail - WINDOW
  for d = 1, 4 do
    local by = max(-s[d], n[d])
    s[d] = s[d] + by
    if e <= head then P[d] = P[d] + by end
    if ahead then T[d] = T[d] + by end
    if e == head or (e < head and by > 0) then
      M[d] = M[d] + by
    elseif e > head and by > 0 and tail < head + WINDOW then
      M[d] = max(M[d], T[d])
    end
  end
  changed[e] = true
end

local function negative(n) return { -n[1], -n[2], -n[3], -n[4] } end

-- Moves the end of the window to the present sub-window. Each sub-window is read once when it leaves, and deleted if this
-- run saves.
local function advance(saved)
  local present = floor(now / SUB)
  if present <= head then return end
  local leaves = min(present - WINDOW, head)
  if leaves == head then
    P = { 0, 0, 0, 0 }
  else
    read(head - WINDOW + 1, leaves)
    for e = head - WINDOW + 1, leaves do
      for d = 1, 4 do P[d] = P[d] - subs[e][d] end
    end
  end
  local first, last = max(head + 1, present - WINDOW + 1), min(present, tail)
  read(first, last)
  for e = first, last do
    for d = 1, 4 do P[d] = P[d] + subs[e][d] end
  end
  if saved then
    -- Redeeming a late booking reads the windows that ended up to LATE sub-windows ago.
    local gone = {}
    for e = head - WINDOW - LATE, min(present - WINDOW - LATE - 1, max(head, tail)) do
      gone[#gone + 1] = e
      if #gone == 500 then
        call('HDEL', STATE, unpack(gone))
        gone = {}
      end
    end
    if #gone > 0 then call('HDEL', STATE, unpack(gone)) end
  end
  head = present
  if tail <= head then tail = head end
  maxAt = 0
end

-- Whether n can be counted in the present sub-window, looking a whole window back and ahead.
local function fitsNow(n)
  if not fits(P, n) then return false end
  if tail <= head then return true end
  local last = min(tail, head + WINDOW - 1)
  if last == tail and not fits(T, n) then return false end
  if maxAt ~= head then
    read(head + 1 - WINDOW, last)
    local sums = { P[1], P[2], P[3], P[4] }
    M = { P[1], P[2], P[3], P[4] }
    for e = head + 1, last do
      local enters, leaves = subs[e], subs[e - WINDOW]
      for d = 1, 4 do
        sums[d] = sums[d] + enters[d] - leaves[d]
        M[d] = max(M[d], sums[d])
      end
    end
    maxAt = head
  end
  return fits(M, n)
end

-- The first sub-window, from the last booked one on, with room for n, and the sums of the window that ends there. Nothing is
-- booked after it, so no other window matters.
local function findSlot(n)
  local e, sums = head, { P[1], P[2], P[3], P[4] }
  if tail > head then e, sums = tail, { T[1], T[2], T[3], T[4] } end
  for _ = 0, WINDOW do
    if e > head and fits(sums, n) then break end
    e = e + 1
    if not subs[e - WINDOW] then read(e - WINDOW, e - WINDOW + 31) end
    for d = 1, 4 do sums[d] = sums[d] - subs[e - WINDOW][d] end
  end
  return e, sums
end

-- Whether the windows that ended from sub-window e until now are within the limits, which may have been lowered since.
local function stillFits(e)
  if not fits(P, NOTHING) then return false end
  if e == head then return true end
  read(e + 1 - WINDOW, head - WINDOW)
  read(e + 1, head)
  local sums = { P[1], P[2], P[3], P[4] }
  for last = head, e + 1, -1 do
    for d = 1, 4 do sums[d] = sums[d] - subs[last][d] + subs[last - WINDOW][d] end
    if not fits(sums, NOTHING) then return false end
  end
  return true
end

-- A booking: its sub-window, the booked tokens, and the number of the holder's former ticket, or 0.
local function writeBooking(id, e, n, ticket)
  call('HSET', STATE, 'b:' .. id, pack({ e, n[3], n[4], ticket }))
  sweepAt((e + 1 + LATE) * SUB + 5000, 'b:' .. id)
  bookings = bookings + 1
end

local function eraseBooking(id)
  call('HDEL', STATE, 'b:' .. id)
  call('ZREM', SWEEP, 'b:' .. id)
  bookings = bookings - 1
end

-- The new sub-window of a request that lost its slot to a late one: the first near one in which enough past calls have left.
-- Bookings ahead are ignored: those behind it slip as well, and each is checked when it is redeemed. After the last booking
-- it would wait for another window.
local MAX_SLIP = 20
local function slip(n)
  local last = min(head + MAX_SLIP, tail)
  read(head + 1 - WINDOW, last - WINDOW)
  local sums = { P[1], P[2], P[3], P[4] }
  for e = head + 1, last do
    for d = 1, 4 do sums[d] = sums[d] - subs[e - WINDOW][d] end
    if fits(sums, n) then return e end
  end
  return nil
end

-- sums: of the window that ends at e, if e is to be the last booked sub-window.
local function book(id, n, e, sums, ticket)
  if sums then
    tail = e
    T = sums
  else
    maxAt = 0
  end
  add(e, n)
  writeBooking(id, e, n, ticket)
end

local function readBooking(id)
  if bookings == 0 then return nil end
  local packed = call('HGET', STATE, 'b:' .. id)
  if not packed then return nil end
  local b = unpackMessage(packed)
  return { at = b[1], n = { 1, b[2] + b[3], b[2], b[3] }, ticket = b[4] }
end

local function dropBooking(id, booking)
  eraseBooking(id)
  add(booking.at, negative(booking.n))
end

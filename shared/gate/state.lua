-- The state of one target, and how it is read and written. All files of the script form one chunk, in the order of script.ts;
-- the declarations of a file are visible in the later ones.
--
-- KEYS  1 hash: the state (see below), one field a sub-window, one field a booking ('b:' id), a ticket ('t:' id)
--         and the number of a ticket that is overdue ('o:' id)
--       2 zset: leases by expiry     3 zset: tickets by number     4 zset: what to sweep ('t:' id, 'o:' id, 'b:' id, 's:' lease) by time
-- ARGV  now (ms; '' = Redis's clock), version of the limits, the five limits (-1: none), a unique string if there is an
--       acquire among the operations (else ''), the newest state that the caller has seen (generation, or '', and ms), the
--       history ('' = the server's own), then the operations (see main.lua)
--
-- The hash holds the state as four small packed arrays instead of forty fields, so that a decision reads it with one HMGET
-- of five fields. An absent `gen` means unseeded.
local STATE, LEASES, QUEUE, SWEEP = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, pack, unpackMessage = redis.call, cmsgpack.pack, cmsgpack.unpack
local floor, min, max = math.floor, math.min, math.max

local SUB = 500 -- ms of a sub-window
local WINDOW = 125 -- sub-windows that count together; gate.ts has the arithmetic
local LATE = 2 -- sub-windows after its own in which a booking may still be redeemed
local LEASE_MS = 15000
local LAPSED_MS = 600000 -- how long a lapsed lease is kept, so that its late report counts once
local DAY_MS = 86400000
local BACKWARDS_MS = 5000
local MAX_PAUSE_MS = 3600000 -- nothing but time lifts a pause, and a header may say anything

local now = tonumber(ARGV[1])
if not now then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

-- The history of this server's data. A server gets a new one when it starts from disk and when it becomes the primary: its
-- state may miss the last seconds. '' if the server does not say.
local history = ARGV[11]
if history == '' then
  local info = redis.pcall('INFO', 'replication')
  local _, before = string.find(type(info) == 'string' and info or '', 'master_replid:', 1, true)
  history = before and string.sub(info, before + 1, before + 40) or ''
end

local got = call('HMGET', STATE, 'gen', 'w', 'l', 'b', 'h', 'history')
local gen = got[1]
local function forget()
  call('DEL', STATE, LEASES, QUEUE, SWEEP)
  gen = false
end
-- This includes a mark (main.lua): the time since it was set does not apply to this history.
if history ~= '' and (gen or got[6]) and got[6] ~= history then forget() end

-- w, the window and the counters. P: sums of the window that ends now. T: of the one that ends at `tail`, the last booked
-- sub-window, if that lies ahead. M: the largest sums of all the windows that hold the present sub-window, known if
-- maxAt == head. Each for requests, tokens, input tokens, output tokens.
local at, head, tail, maxAt, bookings, tickets, overdue, slows, lastTicket, keptAt
local P, T, M
-- Whether a set that the state relies on is gone, as after an eviction. leased: the number of leases at the last write.
local function partIsLost(leased)
  return (leased or 0) > 0 and call('EXISTS', LEASES) == 0
    or tickets > 0 and call('EXISTS', QUEUE) == 0
    or tickets + overdue + bookings + slows > 0 and call('EXISTS', SWEEP) == 0
end
-- l, limits: version; of requests, tokens, input, output, concurrency; then the provider's headers for the first four.
-- -1: none.
local configured, limit
-- b: state, open until, epoch, failures in a row, probe successes, probe's lease, last results, paused until
local breaker
-- h: success rate, health, when that was, latency, p95, last latencies
local health
local limitsChanged, breakerChanged, healthChanged = false, false, false

local CLOSED, OPEN, HALF = 0, 1, 2

local function effective()
  limit = {}
  for d = 1, 4 do
    limit[d] = configured[d + 1]
    if limit[d] < 0 then limit[d] = configured[d + 6] end
  end
  limit[5] = configured[6]
end

local function setLimits(from)
  local version = tonumber(ARGV[from])
  if version <= configured[1] then return end
  configured[1] = version
  for d = 1, 5 do configured[d + 1] = tonumber(ARGV[from + d]) end
  limitsChanged = true
  effective()
end

local function fresh()
  at, head, maxAt, bookings, tickets, overdue, slows, lastTicket, keptAt = now, floor(now / SUB), 0, 0, 0, 0, 0, 0, 0
  tail = head
  P, T, M = { 0, 0, 0, 0 }, { 0, 0, 0, 0 }, { 0, 0, 0, 0 }
  configured = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 }
  breaker = { CLOSED, 0, 0, 0, 0, '', '', 0 }
  health = { 1, 1, now, -1, -1, {} }
  limitsChanged, breakerChanged, healthChanged = true, true, true
end

if gen then
  local w = unpackMessage(got[2])
  at, head, tail, maxAt, bookings, tickets, overdue, slows, lastTicket, keptAt =
    w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10]
  if at > now + BACKWARDS_MS then
    -- The clock was set back (another machine became primary): the counts can no longer be dated.
    forget()
  elseif gen == ARGV[9] and at < tonumber(ARGV[10]) or partIsLost(w[23]) then
    -- An older copy was restored, or a part was removed.
    forget()
  else
    if at > now then now = at end
    at = now
    P, T, M = { w[11], w[12], w[13], w[14] }, { w[15], w[16], w[17], w[18] }, { w[19], w[20], w[21], w[22] }
    configured, breaker, health = unpackMessage(got[3]), unpackMessage(got[4]), unpackMessage(got[5])
    -- Stored before pauses had an upper bound.
    if breaker[8] > now + MAX_PAUSE_MS then breaker[8], breakerChanged = now + MAX_PAUSE_MS, true end
  end
end

-- Sub-windows that this run has read, and those that it has changed.
local subs, changed = {}, {}

-- used: extends the expiry to another day.
local function save(used)
  local keep = used and now - keptAt > 60000
  if keep then
    keptAt = now
    call('ZREMRANGEBYSCORE', LEASES, '-inf', now - LAPSED_MS)
  end
  local fields = {
    'w',
    pack({
      at, head, tail, maxAt, bookings, tickets, overdue, slows, lastTicket, keptAt,
      P[1], P[2], P[3], P[4], T[1], T[2], T[3], T[4], M[1], M[2], M[3], M[4],
      call('ZCARD', LEASES),
    }),
  }
  local n = 2
  local function put(field, value)
    fields[n + 1], fields[n + 2] = field, value
    n = n + 2
  end
  if limitsChanged then put('l', pack(configured)) end
  if breakerChanged then put('b', pack(breaker)) end
  if healthChanged then put('h', pack(health)) end
  for e in pairs(changed) do
    local s = subs[e]
    put(e, pack(s[1], s[2], s[3], s[4]))
    if n >= 1000 then
      call('HSET', STATE, unpack(fields))
      fields, n = {}, 0
    end
  end
  if n > 0 then call('HSET', STATE, unpack(fields)) end
  if keep then
    for k = 1, 4 do call('PEXPIRE', KEYS[k], DAY_MS) end
  end
end

-- A key that became empty has lost its expiry; once per run is enough.
local kept = {}
local function keep(key)
  if kept[key] then return end
  call('PEXPIRE', key, DAY_MS)
  kept[key] = true
end

local function sweepAt(time, member)
  call('ZADD', SWEEP, time, member)
  keep(SWEEP)
end

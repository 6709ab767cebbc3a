import { coalesce } from '#shared/concurrency/coalesce.ts'
import type { Redis } from './connect.ts'

/**
 * `ms`: when the next request would be admitted, milliseconds from now. `left`: requests that would be admitted now; `resetMs`: until the
 * whole limit is available again, if no more requests come.
 */
export type Take = ({ ok: true } | { ok: false; ms: number }) & { left: number; resetMs: number }

const WINDOW_MS = 60_000

/**
 * A sliding window counter: the count of this minute plus the count of the last minute, weighted by the part of it that the
 * window still covers. Source: "How we built rate limiting capable of scaling to millions of domains", Cloudflare blog.
 * KEYS[1] hash of the API key; ARGV: limit, number of requests. Returns the number admitted, the milliseconds until one more
 * would be admitted, the milliseconds left in this minute, and the room that is left. All are integers, so that the arithmetic is exact.
 */
const TAKE = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local minute = math.floor(now / ${WINDOW_MS})
local h = redis.call('HMGET', KEYS[1], 'minute', 'this', 'last')
local seen, this, last = tonumber(h[1]), tonumber(h[2]) or 0, tonumber(h[3]) or 0
if seen ~= minute then
  last = (seen == minute - 1) and this or 0
  this = 0
end
local passed = now % ${WINDOW_MS}
local limit, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local room = math.floor(((limit - this) * ${WINDOW_MS} - last * (${WINDOW_MS} - passed)) / ${WINDOW_MS})
local admitted = math.max(0, math.min(room, wanted))
this = this + admitted
redis.call('HSET', KEYS[1], 'minute', minute, 'this', this, 'last', last)
redis.call('PEXPIRE', KEYS[1], ${2 * WINDOW_MS})
local wait = 1
if this >= limit then
  wait = ${WINDOW_MS} - passed + ${WINDOW_MS} - math.floor((limit - 1) * ${WINDOW_MS} / this)
elseif last > 0 then
  wait = ${WINDOW_MS} - math.floor((limit - this - 1) * ${WINDOW_MS} / last) - passed
end
return { admitted, math.max(1, wait), ${WINDOW_MS} - passed, math.max(0, room - admitted) }
`

/** `n` 0: only refills the stock. */
type TakeRequest = { keyId: string; limit: number; n: number }
type Answer = { admitted: number; ms: number; minuteMs: number; room: number }
/** Requests that are already counted and may be admitted without Redis until their minute ends. */
type Stock = { left: number; until: number; limit: number; ordered: boolean; room: number }

/** A process reserves a hundredth of the limit ahead, so that it cannot strand more than that. */
const STOCK_PART = 100
const MAX_STOCK = 500
const stockOf = (limit: number) => Math.min(MAX_STOCK, Math.floor(limit / STOCK_PART))

/**
 * Limits requests per minute of an API key, for the whole fleet in Redis, or per process while Redis is unavailable.
 * Requests that arrive together are counted together. For large limits some are counted ahead, so that most requests do not
 * wait for Redis.
 */
export function createKeyLimiter(options: {
  redis: Redis
  prefix: string
  now?: () => number
}): (keyId: string, limit: number) => Promise<Take> {
  const { redis, prefix, now = () => performance.now() } = options
  const local = createLocalCounter(now)
  const stocks = new Map<string, Stock>()

  const takeFleet = async (keyId: string, limit: number, needed: number): Promise<Answer> => {
    const asked = performance.now()
    const stock = stocks.get(keyId)
    const ahead = Math.max(0, stockOf(limit) - (stock && stock.until > asked ? stock.left : 0))
    try {
      const reply = await redis.eval(TAKE, 1, `${prefix}:rpm:${keyId}`, limit, needed + ahead)
      const [admitted, ms, minuteMs, room] = reply as [number, number, number, number]
      const spare = Math.max(0, admitted - needed)
      const kept = stocks.get(keyId)
      const left = spare + (kept && kept.until > performance.now() ? kept.left : 0)
      stocks.set(keyId, { left, until: asked + minuteMs, limit, ordered: false, room })
      return { admitted, ms, minuteMs, room: room + left }
    } catch {
      stocks.delete(keyId)
      return local(keyId, limit, needed)
    }
  }

  const ask = coalesce<TakeRequest, Take>({
    max: 1000,
    splitOnError: () => false,
    flush: async asks => {
      const groups = Map.groupBy(asks, one => one.keyId)
      const answers = new Map<string, Answer>()
      await Promise.all(
        [...groups].map(async ([keyId, group]) => {
          const needed = group.reduce((sum, one) => sum + one.n, 0)
          answers.set(keyId, await takeFleet(keyId, group[0]!.limit, needed))
        }),
      )
      return asks.map(({ keyId, n }) => {
        const answer = answers.get(keyId)!
        // A full window slides out by the end of the next minute.
        const state = { left: answer.room, resetMs: answer.minuteMs + WINDOW_MS }
        if (n === 0 || answer.admitted-- > 0) return { ok: true, ...state }
        return { ok: false, ms: answer.ms, ...state }
      })
    },
  })

  return (keyId, limit) => {
    const stock = stocks.get(keyId)
    if (!stock || stock.left === 0 || stock.limit !== limit || stock.until <= performance.now())
      return ask({ keyId, limit, n: 1 })
    stock.left--
    if (stock.left < stockOf(limit) / 2 && !stock.ordered) {
      stock.ordered = true
      void ask({ keyId, limit, n: 0 })
    }
    const resetMs = Math.max(0, Math.ceil(stock.until - performance.now())) + WINDOW_MS
    return Promise.resolve({ ok: true, left: stock.room + stock.left, resetMs })
  }
}

/** The same window in the memory of this process. */
function createLocalCounter(now: () => number) {
  const windows = new Map<string, { minute: number; this: number; last: number }>()
  return (keyId: string, limit: number, wanted: number): Answer => {
    const at = Math.floor(now())
    const minute = Math.floor(at / WINDOW_MS)
    const old = windows.get(keyId)
    const last = old?.minute === minute ? old.last : old?.minute === minute - 1 ? old.this : 0
    const counted = old?.minute === minute ? old.this : 0
    const passed = at % WINDOW_MS
    const room = Math.floor(((limit - counted) * WINDOW_MS - last * (WINDOW_MS - passed)) / WINDOW_MS)
    const admitted = Math.max(0, Math.min(room, wanted))
    const used = counted + admitted
    windows.set(keyId, { minute, this: used, last })
    let wait = 1
    if (used >= limit) wait = WINDOW_MS - passed + WINDOW_MS - Math.floor(((limit - 1) * WINDOW_MS) / used)
    else if (last > 0) wait = WINDOW_MS - Math.floor(((limit - used - 1) * WINDOW_MS) / last) - passed
    return { admitted, ms: Math.max(1, wait), minuteMs: WINDOW_MS - passed, room: Math.max(0, room - admitted) }
  }
}

import { describe, expect, it } from 'vitest'
import { mastersOf } from '#shared/redis/connect.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { forgetKeys, keysLike, testRedis, unreachableRedis } from '#shared/testing/redis.ts'
import { createGate, type Gate, type GateOptions } from './gate.ts'
import { keysOf } from './script.ts'
import { MAX_TARGETS } from './targets.ts'
import {
  type AcquireRequest,
  type CallOutcome,
  type Decision,
  type GateLimits,
  type GatePermit,
  GateUnavailable,
  type SeedData,
} from './types.ts'

const TARGET = { provider: 'anthropic', model: 'claude/x y' }
const NONE: GateLimits = { version: 1, rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }
const FIRST: SeedData = { firstEver: true, calls: [], open: [] }

/** A gate in virtual time. */
async function open(limits: Partial<GateLimits> = {}, more: Partial<GateOptions> = {}) {
  const clock = { now: 1_700_000_000_000 }
  const now = () => clock.now
  const set = { limits: { ...NONE, ...limits } as GateLimits }
  const redis = await testRedis()
  const prefix = testPrefix()
  const create = (other: Partial<GateOptions> = {}) =>
    createGate({
      redis,
      prefix,
      limitsOf: () => set.limits,
      seed: async () => FIRST,
      now,
      sleep: async ms => {
        clock.now += ms
      },
      ...more,
      ...other,
    })
  const gate = create()
  let ids = 0
  const acquire = (request: Partial<AcquireRequest> = {}, by: Gate = gate) =>
    by.acquire({
      ...TARGET,
      id: `task-${++ids}`,
      inputTokens: 10,
      outputTokens: 10,
      maxWaitMs: 600_000,
      lane: 'normal',
      wake: request.id ?? '',
      ...request,
    })
  const go = async (request: Partial<AcquireRequest> = {}): Promise<GatePermit> => granted(await acquire(request))
  const report = (permit: GatePermit, outcome: Partial<CallOutcome> = {}) =>
    gate.report(permit, {
      result: 'success',
      latencyMs: 100,
      inputTokens: null,
      outputTokens: null,
      retryAfterMs: null,
      ...outcome,
    })
  const state = async () => (await gate.describe([TARGET]))[0]!
  const forget = async () => forgetKeys(redis, await keysLike(redis, `{${prefix}:*`))
  return { gate, create, clock, set, redis, prefix, acquire, go, report, state, forget }
}

function granted(decision: Decision): GatePermit {
  if (decision.kind !== 'go') throw new Error(`expected go, got ${JSON.stringify(decision)}`)
  return decision.permit
}
function waits(decision: Decision, reason: string): number {
  expect(decision).toMatchObject({ kind: 'wait', reason })
  return (decision as { ms: number }).ms
}

describe('rate limits', () => {
  it('admit a burst within the limit at once and book the next request a window later', async () => {
    const { acquire, clock } = await open({ rpm: 5 })
    for (let n = 0; n < 5; n++) granted(await acquire())
    const ms = waits(await acquire({ id: 'six' }), 'rate')
    expect(ms).toBeGreaterThan(60_000)
    expect(ms).toBeLessThanOrEqual(62_500)
    clock.now += ms - 1
    expect(waits(await acquire({ id: 'six' }), 'rate')).toBe(1)
    clock.now += 1
    granted(await acquire({ id: 'six' }))
  })

  it.each([
    ['tpm', { tpm: 100 }, 5],
    ['itpm', { itpm: 30 }, 3],
    ['otpm', { otpm: 40 }, 4],
  ] as const)('count tokens: %s', async (_name, limits, fit) => {
    const { acquire } = await open(limits)
    for (let n = 0; n < fit; n++) granted(await acquire())
    waits(await acquire(), 'rate')
  })

  it('book slots first come, first served', async () => {
    const { acquire, clock } = await open({ rpm: 1 })
    await acquire()
    const first = waits(await acquire({ id: 'a' }), 'rate')
    const second = waits(await acquire({ id: 'b' }), 'rate')
    expect(second - first).toBe(62_500)
    clock.now += first
    granted(await acquire({ id: 'a' }))
  })

  it('redeem a booking up to a second late in its own sub-window, and later in the current one', async () => {
    const { acquire, clock } = await open({ rpm: 1 })
    await acquire()
    const ms = waits(await acquire({ id: 'a' }), 'rate')
    const next = waits(await acquire({ id: 'b' }), 'rate')
    const begin = clock.now
    clock.now = begin + ms + 1000
    const late = granted(await acquire({ id: 'a' }))
    expect(late.booked.sub * 500).toBe(begin + ms)
    clock.now = begin + next + 1500
    const moved = granted(await acquire({ id: 'b' }))
    expect(moved.booked.sub * 500).toBe(Math.floor(clock.now / 500) * 500)
  })

  it('book a late request again if its slot has been filled', async () => {
    const { acquire, clock } = await open({ rpm: 1 })
    await acquire()
    const first = waits(await acquire({ id: 'a' }), 'rate')
    const second = waits(await acquire({ id: 'b' }), 'rate')
    clock.now += second - 30_000
    expect(first).toBeLessThan(second)
    // Its own capacity is free again, but the present would be too near to the slot of b.
    expect(waits(await acquire({ id: 'a' }), 'rate')).toBeGreaterThan(60_000)
    clock.now += 30_000
    granted(await acquire({ id: 'b' }))
  })

  it('admit requests that are always late', async () => {
    const { acquire, clock } = await open({ rpm: 1 })
    await acquire()
    const begin = clock.now
    const first = waits(await acquire({ id: 'a' }), 'rate')
    const second = waits(await acquire({ id: 'b' }), 'rate')
    clock.now = begin + first + 4000
    granted(await acquire({ id: 'a' }))
    clock.now = begin + second + 4000
    granted(await acquire({ id: 'b' }))
  })

  it('honour every booking ahead, not only the last', async () => {
    const { acquire, go, report, clock } = await open({ tpm: 100 })
    const tokens = (n: number) => ({ inputTokens: n, outputTokens: 0 })
    const first = await go(tokens(60))
    clock.now += 10_000
    await go(tokens(40))
    waits(await acquire({ id: 'x', ...tokens(60) }), 'rate')
    waits(await acquire({ id: 'y', ...tokens(10) }), 'rate')
    await report(first, { inputTokens: 0, outputTokens: 0 })
    waits(await acquire(tokens(20)), 'rate')
  })

  it('book no slot later than requested', async () => {
    const { acquire, state } = await open({ rpm: 1 })
    await acquire()
    const refused = await acquire({ maxWaitMs: 30_000 })
    expect(refused).toMatchObject({ kind: 'closed', reason: 'late' })
    expect((await state()).bookings).toBe(0)
  })

  it('let a batch book at most a second ahead', async () => {
    const { acquire, clock } = await open({ rpm: 1 })
    await acquire()
    expect(await acquire({ id: 'line', lane: 'batch' })).toMatchObject({ kind: 'closed', reason: 'batch' })
    const ms = waits(await acquire({ id: 'n' }), 'rate')
    clock.now += ms + 62_500 - 800
    // n never came: its booking is swept, and the line has no one before it.
    granted(await acquire({ id: 'line', lane: 'batch' }))
  })

  it('answer never to a request that alone exceeds a limit, and to every request at limit 0', async () => {
    const { acquire, set } = await open({ tpm: 19 })
    expect(await acquire()).toEqual({ kind: 'never', limit: 'tpm' })
    set.limits = { ...NONE, version: 2, rpm: 0 }
    expect(await acquire()).toEqual({ kind: 'never', limit: 'rpm' })
    set.limits = { ...NONE, version: 3, concurrency: 0 }
    expect(await acquire()).toEqual({ kind: 'never', limit: 'concurrency' })
  })

  it('admit new requests at once when a limit is raised', async () => {
    const { acquire, set } = await open({ rpm: 1 })
    await acquire()
    waits(await acquire({ id: 'a' }), 'rate')
    set.limits = { ...NONE, version: 2, rpm: 10 }
    granted(await acquire())
  })

  it('check bookings again when a limit is lowered', async () => {
    const { acquire, set, clock } = await open({ rpm: 4 })
    for (let n = 0; n < 4; n++) granted(await acquire())
    const ms = waits(await acquire({ id: 'a' }), 'rate')
    for (const id of ['b', 'c', 'd']) waits(await acquire({ id }), 'rate')
    set.limits = { ...NONE, version: 2, rpm: 2 }
    clock.now += ms
    const kinds = []
    for (const id of ['a', 'b', 'c', 'd']) kinds.push((await acquire({ id })).kind)
    expect(kinds.filter(kind => kind === 'go')).toHaveLength(2)
  })

  it('ignore older limits from a worker that lags behind', async () => {
    const { acquire, gate, set, create } = await open({ rpm: 1 })
    await acquire()
    await gate.setLimits(TARGET, { ...NONE, version: 5, rpm: 3 })
    set.limits = { ...NONE, version: 4, rpm: 0 }
    granted(await acquire())
    granted(await acquire({}, create()))
    waits(await acquire(), 'rate')
  })

  it('replace the estimate by the real usage', async () => {
    const { acquire, go, report, state } = await open({ tpm: 100 })
    const permit = await go({ inputTokens: 50, outputTokens: 50 })
    waits(await acquire({ id: 'waits', maxWaitMs: 1e6 }), 'rate')
    await report(permit, { inputTokens: 5, outputTokens: 15 })
    expect((await state()).tpm).toEqual({ used: 20, limit: 100 })
    await report(permit, { inputTokens: 0, outputTokens: 0 })
    expect((await state()).tpm.used).toBe(20)
  })

  it('return a released permit', async () => {
    const { acquire, go, gate, state } = await open({ rpm: 1, concurrency: 1 })
    const permit = await go()
    await gate.release(permit)
    await gate.release(permit)
    expect(await state()).toMatchObject({ rpm: { used: 0 }, tpm: { used: 0 }, concurrency: { used: 0 } })
    granted(await acquire())
  })
})

describe('the names of one model', () => {
  const model = 'claude-sonnet-5-5'
  const dated = 'claude-sonnet-5-5-20261001'

  it.each([
    ['anthropic', model, dated],
    ['ollama', 'llama3', 'llama3:latest'],
    ['google', 'gemini-2.5-pro', 'gemini-2.5-pro-made-up'],
  ])('share its limits: %s, %s and %s', async (provider, one, other) => {
    const { acquire, go, gate } = await open({ rpm: 2 })
    await go({ provider, model: one })
    await go({ provider, model: other })
    for (const name of [one, other]) waits(await acquire({ provider, model: name }), 'rate')
    expect(await gate.targets()).toEqual([{ provider, model: one }])
  })

  it('share its leases, pauses and health, whichever name is reported', async () => {
    const { acquire, go, report, gate } = await open({ concurrency: 1 })
    const permit = await go({ model: dated })
    waits(await acquire({ model, id: 'waits', wake: 'waits' }), 'concurrency')
    expect(await report(permit, { result: 'failure', retryAfterMs: 9000 })).toEqual([])
    expect(await acquire({ model })).toMatchObject({ kind: 'closed', ms: 9000, reason: 'pause' })
    const [state] = await gate.describe([{ ...TARGET, model }])
    expect(state).toMatchObject({ pauseMs: 9000, successRate: 0.9, concurrency: { used: 0 } })
  })
})

describe('concurrency', () => {
  it('wakes waiters in order and keeps the slot for them', async () => {
    const { acquire, go, report } = await open({ concurrency: 1 })
    const permit = await go()
    for (const id of ['a', 'b']) waits(await acquire({ id }), 'concurrency')
    expect(await report(permit)).toEqual(['a'])
    waits(await acquire({ id: 'stranger' }), 'concurrency')
    waits(await acquire({ id: 'b' }), 'concurrency')
    const a = granted(await acquire({ id: 'a' }))
    expect(await report(a)).toEqual(['b'])
  })

  it('passes a slot on when the woken waiter does not come', async () => {
    const { acquire, go, report, clock } = await open({ concurrency: 1 })
    const permit = await go()
    for (const id of ['a', 'b']) waits(await acquire({ id }), 'concurrency')
    expect(await report(permit)).toEqual(['a'])
    clock.now += 1999
    waits(await acquire({ id: 'b' }), 'concurrency')
    clock.now += 2
    granted(await acquire({ id: 'b' }))
  })

  it('drops tickets whose holders never return', async () => {
    const { acquire, go, clock, state, report, redis, prefix } = await open({ concurrency: 1 })
    const permit = await go()
    for (const id of ['a', 'b']) waits(await acquire({ id }), 'concurrency')
    clock.now += 5000
    expect((await state()).waiters).toBe(0)
    await report(permit)
    clock.now += 60_000
    await state()
    expect(await keysLike(redis, `{${prefix}:*`)).toHaveLength(1)
  })

  it('lets a lease expire with its holder, unless it is renewed', async () => {
    const { acquire, go, clock, gate, report, state } = await open({ concurrency: 1 })
    const permit = await go()
    for (let n = 0; n < 5; n++) {
      clock.now += 10_000
      await gate.renew([permit])
    }
    waits(await acquire({ id: 'a' }), 'concurrency')
    clock.now += 15_000
    const a = await go({ id: 'a' })
    // Its holder was alive after all: its usage counts, its slot is no longer its own.
    await report(permit, { latencyMs: 70_000 })
    expect(await state()).toMatchObject({ concurrency: { used: 1 }, latencyMs: 70_000 })
    await report(a)
  })

  it('wakes waiters when the limit is raised', async () => {
    const { acquire, go, gate, set } = await open({ concurrency: 1 })
    await go()
    for (const id of ['a', 'b', 'c']) waits(await acquire({ id }), 'concurrency')
    set.limits = { ...NONE, version: 2, concurrency: 3 }
    expect(await gate.setLimits(TARGET, set.limits)).toEqual(['a', 'b'])
  })

  it('keeps the booking and the place in the queue of a request that waits for a slot', async () => {
    const { acquire, go, report, clock, gate } = await open({ rpm: 2, concurrency: 1 })
    const [, hold] = [await report(await go()), await go()]
    await report(hold)
    const ms = waits(await acquire({ id: 'a' }), 'rate')
    clock.now += ms - 10
    // b has the next slot of the window, and takes the only lease.
    clock.now += 10
    const b = await go({ id: 'b' })
    waits(await acquire({ id: 'a' }), 'concurrency')
    for (let n = 0; n < 10; n++) {
      clock.now += 900
      await gate.renew([b])
      waits(await acquire({ id: 'a' }), 'concurrency')
    }
    expect(await report(b)).toEqual(['a'])
    granted(await acquire({ id: 'a' }))
  })
})

describe('the circuit breaker', () => {
  const failure = { result: 'failure' } as const

  async function opened() {
    const world = await open()
    const before = await world.go()
    for (let n = 0; n < 3; n++) await world.report(await world.go(), failure)
    return { ...world, before }
  }

  it('opens after three failures in a row and says how long', async () => {
    const { acquire, clock, state } = await opened()
    clock.now += 10_000
    expect(await acquire()).toEqual({ kind: 'closed', ms: 20_000, reason: 'breaker' })
    expect(await state()).toMatchObject({ breaker: 'open', retryMs: 20_000 })
  })

  it('opens when more than half of the last results are failures', async () => {
    const { go, report, state } = await open()
    for (const ok of [0, 0, 1, 0, 0, 1, 0, 1, 1]) await report(await go(), ok ? {} : failure)
    expect((await state()).breaker).toBe('closed')
    await report(await go(), failure)
    expect((await state()).breaker).toBe('open')
  })

  it('lets one probe through at a time and closes after two successes', async () => {
    const { acquire, go, report, clock, state } = await opened()
    clock.now += 30_000
    const probe = await go()
    expect(await acquire()).toMatchObject({ kind: 'closed', reason: 'breaker' })
    await report(probe)
    const second = await go()
    expect(await acquire()).toMatchObject({ kind: 'closed', reason: 'breaker' })
    await report(second)
    expect((await state()).breaker).toBe('closed')
    granted(await acquire())
  })

  it('opens again when a probe fails', async () => {
    const { acquire, go, report, clock } = await opened()
    clock.now += 30_000
    await report(await go(), failure)
    expect(await acquire()).toEqual({ kind: 'closed', ms: 30_000, reason: 'breaker' })
  })

  it('leaves half open after a probe whose holder died, was released or was neutral', async () => {
    const { acquire, go, gate, report, clock } = await opened()
    clock.now += 30_000
    await go()
    clock.now += 14_999
    expect((await acquire()).kind).toBe('closed')
    clock.now += 1
    await gate.release(await go())
    await report(await go(), { result: 'neutral' })
    granted(await acquire())
  })

  it('ignores calls that began before it opened', async () => {
    const { go, report, clock, before, gate, state } = await opened()
    const probeAt = 30_000
    clock.now += 10_000
    await gate.renew([before])
    clock.now += probeAt - 10_000
    const probe = await go()
    await report(before, failure)
    expect((await state()).breaker).toBe('half_open')
    await report(probe)
    await report(await go())
    expect((await state()).breaker).toBe('closed')
  })

  it('ignores outcomes of calls that started before it opened, also after it has closed', async () => {
    const { go, report, clock, state, gate } = await open()
    const before = [await go(), await go(), await go()]
    for (let n = 0; n < 3; n++) await report(await go(), failure)
    clock.now += 30_000
    for (let n = 0; n < 2; n++) await report(await go())
    await gate.renew(before)
    for (const permit of before) await report(permit, failure)
    expect((await state()).breaker).toBe('closed')
  })

  it('counts a slow call as a failure at once, and only once', async () => {
    const { go, gate, report, state } = await open()
    const slow = await go()
    await gate.slow(slow)
    await gate.slow(slow)
    await report(slow, failure)
    await report(await go(), failure)
    expect((await state()).breaker).toBe('closed')
    await gate.slow(await go())
    expect((await state()).breaker).toBe('open')
  })

  it('gives the duration after which a call is slow', async () => {
    const { go, report } = await open()
    expect((await go()).slowAfterMs).toBe(30_000)
    await report(await go(), { latencyMs: 100 })
    expect((await go()).slowAfterMs).toBe(2000)
    for (let n = 0; n < 20; n++) await report(await go(), { latencyMs: n === 3 ? 9000 : 1000 + n })
    expect((await go()).slowAfterMs).toBe(4 * 1019)
  })
})

describe('the provider’s answer', () => {
  it('pauses the target, and a shorter pause does not end a longer one', async () => {
    const { acquire, go, report, clock } = await open()
    const [one, two, three] = [await go(), await go(), await go()]
    await report(one, { result: 'neutral', retryAfterMs: 30_000 })
    expect(await acquire()).toEqual({ kind: 'closed', ms: 30_000, reason: 'pause' })
    await report(two, { result: 'neutral', retryAfterMs: 5000 })
    expect(await acquire()).toEqual({ kind: 'closed', ms: 30_000, reason: 'pause' })
    await report(three, { result: 'neutral', retryAfterMs: 40_000 })
    clock.now += 39_999
    expect(await acquire()).toEqual({ kind: 'closed', ms: 1, reason: 'pause' })
    clock.now += 1
    granted(await acquire())
  })

  it.each([3_600_001, 1e12, Number.POSITIVE_INFINITY])('pauses it for an hour at most: %d ms', async retryAfterMs => {
    const { acquire, go, report, clock, state } = await open()
    await report(await go(), { result: 'neutral', retryAfterMs })
    expect((await state()).pauseMs).toBe(3_600_000)
    clock.now += 3_600_000
    granted(await acquire())
  })

  it('shortens a stored pause without an upper bound to an hour', async () => {
    const { acquire, go, clock, redis, prefix } = await open()
    await go()
    const [state] = await keysLike(redis, `{${prefix}:*:state`)
    const lua = "redis.call('HSET', KEYS[1], 'b', cmsgpack.pack({ 0, 0, 0, 0, 0, '', '', tonumber(ARGV[1]) }))"
    await redis.eval(lua, 1, state!, clock.now + 1e12)
    expect(await acquire()).toEqual({ kind: 'closed', ms: 3_600_000, reason: 'pause' })
    clock.now += 3_600_000
    granted(await acquire())
  })

  it('leaves no more than the headers say, even if they repeat it', async () => {
    const { acquire, go, report, clock, state } = await open({ rpm: 100 })
    const permits = [await go(), await go(), await go()]
    const headers = { requests: { limit: 100, remaining: 10, resetMs: 20_000 } }
    for (const permit of permits) await report(permit, { headers })
    expect((await state()).rpm.used).toBe(90)
    for (let n = 0; n < 10; n++) granted(await acquire())
    waits(await acquire({ maxWaitMs: 30_000 }), 'rate')
    clock.now += 20_500
    // Three, ten, and the current booking.
    expect((await state()).rpm.used).toBe(14)
  })

  it('sets a limit from the headers if none is configured', async () => {
    const { acquire, go, report, state } = await open({ rpm: 100 })
    const headers = { tokens: { limit: 50, remaining: 30, resetMs: 60_000 } }
    await report(await go(), { headers })
    expect((await state()).tpm).toEqual({ used: 20, limit: 50 })
    granted(await acquire())
    waits(await acquire(), 'rate')
    expect(await acquire({ inputTokens: 51 })).toEqual({ kind: 'never', limit: 'tpm' })
  })

  it('lowers the health, which recovers', async () => {
    const { go, report, clock, state } = await open()
    expect((await state()).health).toBe(1)
    await report(await go(), { result: 'failure' })
    await report(await go(), { result: 'failure' })
    const hurt = await state()
    expect(hurt.health).toBeLessThan(0.7)
    expect(hurt.successRate).toBeLessThan(1)
    clock.now += 60_000
    expect((await state()).health).toBeGreaterThan(hurt.health)
    clock.now += 600_000
    expect((await state()).health).toBeGreaterThan(0.99)
  })
})

describe('a target that Redis lost', () => {
  it('is seeded from the ledger after its lost permits have expired', async () => {
    const ledger: SeedData = { firstEver: false, calls: [], open: [] }
    const { acquire, go, forget, clock } = await open(
      { rpm: 2, concurrency: 5 },
      { seed: async () => structuredClone(ledger) },
    )
    await go()
    await forget()
    const at = clock.now
    ledger.calls.push({ ageMs: 1000, inputTokens: 1, outputTokens: 1 })
    granted(await acquire())
    expect(clock.now - at).toBeGreaterThanOrEqual(1000)
    waits(await acquire(), 'rate')
  })

  it('counts running calls until their holders renew or report them', async () => {
    const ledger: SeedData = { firstEver: false, calls: [], open: [{ id: 'a' }] }
    const { acquire, go, forget, report, state, gate } = await open({ concurrency: 1 }, { seed: async () => ledger })
    ledger.open = []
    const a = await go({ id: 'a' })
    await forget()
    ledger.open = [{ id: 'a' }]
    waits(await acquire({ id: 'b' }), 'concurrency')
    await gate.renew([a])
    expect((await state()).concurrency.used).toBe(1)
    expect(await report(a)).toEqual(['b'])
    expect((await state()).concurrency.used).toBe(0)
  })

  it('is read again if Redis loses it again meanwhile', async () => {
    let reads = 0
    const world = await open(
      { rpm: 1 },
      {
        seed: async () => {
          reads++
          if (reads === 2) await world.forget()
          return {
            firstEver: false,
            calls: reads >= 4 ? [{ ageMs: 0, inputTokens: 1, outputTokens: 1 }] : [],
            open: [],
          }
        },
      },
    )
    waits(await world.acquire(), 'rate')
    expect(reads).toBe(4)
  })

  it('can be seeded by many processes at a time', async () => {
    const { acquire, create } = await open({ rpm: 3 })
    const gates = Array.from({ length: 5 }, () => create())
    const decisions = await Promise.all(gates.map(gate => acquire({}, gate)))
    expect(decisions.filter(one => one.kind === 'go')).toHaveLength(3)
  })

  it('does not affect other targets', async () => {
    const { go, gate, state, prefix, redis } = await open()
    expect(await state()).toMatchObject({ seeded: false, health: 1 })
    expect(await gate.targets()).toEqual([])
    await go()
    expect(await gate.targets()).toEqual([TARGET])
    for (const key of await keysLike(redis, `{${prefix}:*`)) expect(await redis.pttl(key)).toBeGreaterThan(0)
  })
})

describe('describe', () => {
  const HOUR = 3_600_000

  it('keeps no target alive: it expires a day after its last call', async () => {
    const { go, gate, clock, redis, prefix, report } = await open()
    await report(await go())
    const [state] = await keysLike(redis, `{${prefix}:*:state`)
    await redis.pexpire(state!, HOUR)
    clock.now += 120_000
    expect(await gate.describe([TARGET])).toMatchObject([{ seeded: true, rpm: { used: 0 } }])
    expect(await redis.pttl(state!)).toBeLessThanOrEqual(HOUR)
    await go()
    expect(await redis.pttl(state!)).toBeGreaterThan(23 * HOUR)
  })

  it('writes nothing, even when sub-windows have left the window', async () => {
    const { go, gate, clock, redis, prefix } = await open({ rpm: 10 })
    for (let n = 0; n < 3; n++) {
      await go()
      clock.now += 20_000
    }
    const [state] = await keysLike(redis, `{${prefix}:*:state`)
    const before = await redis.hgetallBuffer(state!)
    for (const used of [2, 1, 0]) {
      clock.now += 20_000
      expect(await gate.describe([TARGET, TARGET])).toMatchObject([{ rpm: { used } }, { rpm: { used } }])
    }
    expect(await redis.hgetallBuffer(state!)).toEqual(before)
  })

  it('covers the targets called within a day', async () => {
    const { go, gate, clock } = await open()
    await go()
    for (let hour = 1; hour < 24; hour++) {
      clock.now += HOUR
      await go({ model: 'other' })
      await gate.describe(await gate.targets())
      expect(await gate.targets()).toHaveLength(2)
    }
    clock.now += HOUR
    await go({ model: 'other' })
    expect(await gate.targets()).toEqual([{ ...TARGET, model: 'other' }])
  })

  it('covers the 200 targets called last; the others soon expire', async () => {
    const { go, gate, clock, redis, prefix } = await open()
    const names = Array.from({ length: MAX_TARGETS + 5 }, (_, n) => `made-up-${n}`)
    await go()
    for (const model of names) {
      clock.now += 1000
      await go({ model })
      clock.now += 1000
      if (model === 'made-up-150') await go()
    }
    const models = (await gate.targets()).map(one => one.model)
    expect(models).toEqual([...names.slice(6, 151), TARGET.model, ...names.slice(151)].reverse())
    const [kept, left] = ['made-up-150', 'made-up-1'].map(model => keysOf(prefix, { ...TARGET, model })[0]!)
    expect(await redis.pttl(kept!)).toBeGreaterThan(23 * HOUR)
    expect(await redis.pttl(left!)).toBeLessThanOrEqual(120_000)
  })

  it('of every target does not delay a call', async () => {
    const asked: string[] = []
    const { gate, go } = await open(
      {},
      {
        limitsOf: target => {
          asked.push(target.model)
          return NONE
        },
      },
    )
    await go()
    asked.length = 0
    const everything = gate.describe(Array.from({ length: 150 }, (_, n) => ({ ...TARGET, model: `m${n}` })))
    await Promise.all([go(), everything])
    expect(asked.indexOf(TARGET.model)).toBeLessThanOrEqual(50)
  })
})

describe('the use of a target', () => {
  it('is recorded at its first call and every hour', async () => {
    const noted: number[] = []
    const { go, clock } = await open({}, { markUsed: async () => noted.push(clock.now) })
    const begin = clock.now
    for (let minute = 0; minute <= 130; minute++) {
      await go()
      clock.now += 60_000
    }
    expect(noted.map(at => (at - begin) / 60_000)).toEqual([0, 60, 120])
  })

  it('is recorded at the next call if that failed', async () => {
    let tries = 0
    const { go } = await open({}, { markUsed: async () => (++tries === 1 ? Promise.reject(new Error('away')) : null) })
    for (let n = 0; n < 3; n++) await go()
    expect(tries).toBe(2)
  })
})

describe('without Redis', () => {
  it('every operation throws GateUnavailable', async () => {
    const gate = createGate({ redis: unreachableRedis(), prefix: 'p', limitsOf: () => null, seed: async () => FIRST })
    const request = {
      ...TARGET,
      id: 'a',
      inputTokens: 1,
      outputTokens: 1,
      maxWaitMs: 1,
      lane: 'normal',
      wake: '',
    } as const
    await expect(gate.acquire(request)).rejects.toBeInstanceOf(GateUnavailable)
    await expect(gate.targets()).rejects.toBeInstanceOf(GateUnavailable)
  })

  it('acquire throws GateUnavailable when the ledger cannot be read', async () => {
    const { acquire } = await open({}, { seed: () => Promise.reject(new Error('away')) })
    await expect(acquire()).rejects.toBeInstanceOf(GateUnavailable)
  })

  it('the script is loaded again when Redis has lost it', async () => {
    const { acquire, redis } = await open()
    granted(await acquire())
    await Promise.all(mastersOf(redis).map(node => node.script('FLUSH')))
    granted(await acquire())
  })
})

import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import type { Redis } from '#shared/redis/connect.ts'
import { testPrefix } from './database.ts'
import { overruns, type SimulatedTask, type Simulation, simulate } from './gate-simulation.ts'
import { testRedis } from './redis.ts'

const NONE = { rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }
const PROCESSES = 3
let redises: Redis[]
let prefix: string
let runs = 0

beforeEach(async () => {
  redises = await Promise.all(Array.from({ length: PROCESSES }, () => testRedis()))
  prefix = testPrefix()
})

const run = (simulation: Omit<Simulation, 'redises' | 'prefix'>) =>
  simulate({ ...simulation, redises, prefix: `${prefix}-${++runs}` })

async function leftIn(pattern: string) {
  const left: string[] = []
  for (const key of await redises[0]!.keys(pattern)) {
    if (key.endsWith(':state')) left.push(...(await redises[0]!.hkeys(key)).filter(field => /^[bto]:/.test(field)))
    else left.push(key)
  }
  return left
}

const limits = fc.record({
  rpm: fc.option(fc.integer({ min: 3, max: 15 })),
  tpm: fc.option(fc.integer({ min: 100, max: 400 })),
  itpm: fc.option(fc.integer({ min: 50, max: 200 })),
  otpm: fc.option(fc.integer({ min: 50, max: 200 })),
  concurrency: fc.option(fc.integer({ min: 1, max: 5 })),
})

const task = (span: number): fc.Arbitrary<SimulatedTask> =>
  fc.record({
    at: fc.oneof(fc.integer({ min: 0, max: span }), fc.constantFrom(0, 1, 499, 500, 60_000, 62_500)),
    process: fc.integer({ min: 0, max: PROCESSES - 1 }),
    input: fc.integer({ min: 0, max: 50 }),
    output: fc.integer({ min: 0, max: 50 }),
    used: fc.double({ min: 0, max: 1, noNaN: true }),
    latencyMs: fc.integer({ min: 1, max: 20_000 }),
    startsAfterMs: fc.constantFrom(0, 1, 300, 999),
    lateMs: fc.array(fc.constantFrom(0, 0, 3, 400, 999, 1499, 1500, 4000), { minLength: 1, maxLength: 4 }),
    lane: fc.constantFrom('normal', 'normal', 'batch'),
    fate: fc.constantFrom('success', 'success', 'success', 'neutral', 'failure', 'unused', 'dies'),
    hears: fc.boolean(),
  })

const anything = fc.record({
  tasks: fc.array(task(100_000), { minLength: 1, maxLength: 40, size: 'max' }),
  limits: fc
    .array(fc.record({ at: fc.integer({ min: 1, max: 150_000 }), limits }), { maxLength: 3 })
    .chain(more => limits.map(first => [{ at: 0, limits: first }, ...more.toSorted((a, b) => a.at - b.at)])),
  lagMs: fc.constantFrom(0, 700, 20_000),
  losses: fc.array(fc.integer({ min: 1, max: 150_000 }), { maxLength: 2 }),
  regressions: fc.array(
    fc.record({ at: fc.integer({ min: 1, max: 150_000 }), olderMs: fc.constantFrom(1, 400, 1000, 5000, 60_000) }),
    { maxLength: 2 },
  ),
})

describe('a fleet', () => {
  it('never exceeds a limit, starves no task and leaves no keys behind', async () => {
    await fc.assert(
      fc.asyncProperty(anything, async world => {
        const { calls, starved, overlaps, failures, state } = await run({ ...world, untilMs: 7_200_000 })
        expect(failures).toEqual([])
        expect(overruns(calls)).toEqual([])
        expect(overlaps).toEqual([])
        expect(starved).toEqual([])
        expect(state).toMatchObject({ bookings: 0, waiters: 0, rpm: { used: 0 }, tpm: { used: 0 } })
        expect(state.concurrency.used).toBe(0)
        expect(await leftIn(`{${prefix}-${runs}:*`)).toEqual([])
      }),
      { numRuns: 30 },
    )
  }, 120_000)

  it('uses at least 93% of a limit if the demand is twice the limit', async () => {
    const perMinute = 100
    const tasks = Array.from(
      { length: perMinute * 6 },
      (_, n): SimulatedTask => ({
        at: n * (30_000 / perMinute),
        process: n % PROCESSES,
        input: 10 + ((n * 7) % 40),
        output: 20,
        used: 1,
        latencyMs: 700,
        startsAfterMs: 5,
        lateMs: [0, 30, 200],
        lane: 'normal',
        fate: 'success',
        hears: true,
      }),
    )
    const base = { tasks, lagMs: 0, losses: [], untilMs: 190_000 }
    const startedIn = async (set: Partial<typeof NONE> | { rpm?: number; tpm?: number }) => {
      const { calls } = await run({ ...base, limits: [{ at: 0, limits: { ...NONE, ...set } }] })
      expect(overruns(calls)).toEqual([])
      return calls.filter(call => call.startedAt < 180_000)
    }
    expect((await startedIn({ rpm: perMinute })).length).toBeGreaterThanOrEqual(0.93 * 3 * perMinute)
    const tpm = 49 * perMinute
    const tokens = (await startedIn({ tpm })).reduce((sum, call) => sum + call.tokens.input + call.tokens.output, 0)
    expect(tokens).toBeGreaterThanOrEqual(0.93 * 3 * tpm)
  }, 120_000)
})

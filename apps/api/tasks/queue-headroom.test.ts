import { describe, expect, it } from 'vitest'
import { createLogger } from '#shared/process/logger.ts'
import { createHeadroom } from './queue-headroom.ts'

const logger = createLogger({ level: 'silent', name: 'test' })
const anna = { apiKeyId: 'anna', priority: 'normal' }

function harness(dispatched = 0, backlog = 0) {
  const state = { now: 1000, asked: 0, dispatched, backlog, broken: false }
  const headroom = createHeadroom({
    now: () => state.now,
    read: async () => {
      state.asked++
      if (state.broken) throw new Error('away')
      return { backlog: state.backlog, dispatched: state.dispatched }
    },
    logger,
  })
  const take = (count: number, flow = anna) =>
    Array.from({ length: count }, () => headroom.take(flow)).filter(Boolean).length
  /** Advances the time, takes once, and awaits the refresh that this starts. */
  const later = async (ms: number) => {
    state.now += ms
    const taken = take(1)
    await new Promise(resolve => setImmediate(resolve))
    return taken
  }
  return { state, take, later }
}

describe('the headroom of a flow', () => {
  it('is 64 tasks at first, separately for each flow', () => {
    const { take } = harness()
    expect(take(100)).toBe(64)
    expect(take(100, { ...anna, priority: 'low' })).toBe(64)
    expect(take(100, { ...anna, apiKeyId: 'bert' })).toBe(64)
  })

  it('returns as the queue empties', async () => {
    const { take, state, later } = harness()
    take(64)
    state.dispatched = 60
    await later(100)
    expect(take(100)).toBe(4)
    state.dispatched = 0
    await later(100)
    expect(take(100)).toBeGreaterThanOrEqual(64)
  })

  it('excludes the older backlog: it is 0 while the backlog is long', async () => {
    const { take, state, later } = harness()
    take(64)
    state.backlog = 2000
    await later(100)
    expect(take(100)).toBe(0)
    state.backlog = 20
    await later(100)
    expect(take(100)).toBe(44)
  })

  it('grows with the rate at which tasks are consumed', async () => {
    const { take, state, later } = harness()
    take(64)
    for (let n = 0; n < 5; n++) {
      state.dispatched = 0
      await later(100)
      take(10_000)
    }
    state.dispatched = 0
    await later(100)
    expect(take(10_000)).toBeGreaterThan(500)
  })

  it('is refreshed at most every 50 ms, only when low, and once at a time', async () => {
    const { take, state, later } = harness()
    await later(1000)
    expect(state.asked).toBe(0)
    take(63)
    await later(100)
    expect(state.asked).toBe(1)
    await later(10)
    expect(state.asked).toBe(1)
  })

  it('is unchanged while Postgres is unavailable', async () => {
    const { take, state, later } = harness()
    take(40)
    state.broken = true
    await later(100)
    expect(take(100)).toBe(23)
    state.broken = false
    await later(100)
    expect(take(100)).toBeGreaterThan(0)
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createLimits, type Limits } from './upstream-limits.ts'

const MINUTE = 60_000

function limitsOf(limits: Limits) {
  const all = createLimits()
  all.limit(limits)
  const call = (now: number, tokens = 0, forMs = 0) => {
    const visit = all.arrive(now)
    const retryAfterMs = visit.retryAfterMs ?? visit.spend(tokens, now)
    if (forMs === 0) visit.leave()
    return { ...visit, retryAfterMs }
  }
  return { ...all, call }
}

describe('the limits of the fake upstream', () => {
  it('refuses calls beyond the limit until the first is 60 s old, and returns the wait', () => {
    const { call, traffic } = limitsOf({ requestsPerMinute: 2 })
    expect(call(0).retryAfterMs).toBeNull()
    expect(call(10).retryAfterMs).toBeNull()
    expect(call(20).retryAfterMs).toBe(MINUTE - 20)
    expect(call(MINUTE - 1).retryAfterMs).toBe(1)
    expect(call(MINUTE).retryAfterMs).toBeNull()
    expect(traffic()).toMatchObject({ overruns: 2, requestsPerMinute: 4 })
  })

  it('refuses tokens beyond the limit until enough have left', () => {
    const { call, traffic } = limitsOf({ tokensPerMinute: 100 })
    expect(call(0, 40).retryAfterMs).toBeNull()
    expect(call(10, 60).retryAfterMs).toBeNull()
    expect(call(20, 41).retryAfterMs).toBe(MINUTE + 10 - 20)
    expect(call(20, 40).retryAfterMs).toBe(MINUTE - 20)
    expect(call(20, 101).retryAfterMs).toBe(MINUTE)
    expect(call(20, 0).retryAfterMs).toBeNull()
    expect(traffic()).toMatchObject({ overruns: 3, tokensPerMinute: 100 })
  })

  it('refuses calls beyond the concurrency while the others last', () => {
    const { call, traffic } = limitsOf({ concurrency: 1 })
    const one = call(0, 0, 1)
    expect(call(1).retryAfterMs).toBeGreaterThan(0)
    one.leave()
    one.leave()
    expect(call(2).retryAfterMs).toBeNull()
    expect(traffic()).toMatchObject({ overruns: 1, concurrency: 2 })
  })

  it('only counts without a limit; a reset clears the counts and keeps open calls', () => {
    const { call, traffic, reset } = limitsOf({})
    const open = call(0, 5, 1)
    call(1, 6)
    expect(traffic()).toEqual({ overruns: 0, requestsPerMinute: 2, tokensPerMinute: 11, concurrency: 2 })
    reset()
    expect(traffic()).toEqual({ overruns: 0, requestsPerMinute: 0, tokensPerMinute: 0, concurrency: 1 })
    open.leave()
    call(2, 1)
    expect(traffic()).toEqual({ overruns: 0, requestsPerMinute: 1, tokensPerMinute: 1, concurrency: 1 })
  })

  it('accepts exactly the calls that fit into any 60 s, and a call that fits after the returned wait', () => {
    const step = fc.record({ gap: fc.integer({ min: 0, max: 25_000 }), tokens: fc.integer({ min: 0, max: 120 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        const { call } = limitsOf({ requestsPerMinute: 3, tokensPerMinute: 100 })
        const accepted: { at: number; tokens: number }[] = []
        let now = 0
        for (const { gap, tokens } of steps) {
          now += gap
          const within = (time: number) => accepted.filter(({ at }) => at > time - MINUTE)
          const fits = (time: number) =>
            within(time).length < 3 && within(time).reduce((sum, one) => sum + one.tokens, tokens) <= 100
          const { retryAfterMs } = call(now, tokens)
          expect(retryAfterMs === null).toBe(fits(now))
          if (retryAfterMs === null) accepted.push({ at: now, tokens })
          else if (tokens <= 100 && within(now).length < 3) expect(fits(now + retryAfterMs)).toBe(true)
        }
      }),
    )
  })
})

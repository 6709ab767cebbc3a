import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Redis } from './connect.ts'
import { createKeyLimiter, type Take } from './key-limiter.ts'

const MINUTE = 60_000

/** A limiter that has only its own memory, at a time that the test sets. */
function alone(at = 1000 * MINUTE) {
  const clock = { at }
  const redis = { eval: () => Promise.reject(new Error('redis is away')) } as unknown as Redis
  return { clock, take: createKeyLimiter({ redis, prefix: 'test', now: () => clock.at }) }
}
const admitted = (takes: Take[]) => takes.filter(take => take.ok).length
const many = (take: (key: string, limit: number) => Promise<Take>, count: number, limit: number) =>
  Promise.all(Array.from({ length: count }, () => take('key', limit)))

describe('the limit of a key while Redis is unavailable', () => {
  it('is enforced by the process', async () => {
    const { take } = alone()
    expect(admitted(await many(take, 25, 10))).toBe(10)
    expect(admitted(await many(take, 5, 10))).toBe(0)
  })

  it('counts each key separately', async () => {
    const { take } = alone()
    expect(await Promise.all([take('a', 1), take('b', 1), take('a', 1)])).toEqual([
      { ok: true, left: 0, resetMs: 2 * MINUTE },
      { ok: true, left: 0, resetMs: 2 * MINUTE },
      { ok: false, ms: expect.any(Number), left: 0, resetMs: 2 * MINUTE },
    ])
  })

  it('reports the requests that are left', async () => {
    const { take } = alone()
    const lefts = []
    for (let n = 0; n < 4; n++) lefts.push((await take('key', 3)).left)
    expect(lefts).toEqual([2, 1, 0, 0])
  })

  it('slides: the requests of the last minute expire one by one', async () => {
    const { take, clock } = alone()
    expect(admitted(await many(take, 100, 100))).toBe(100)
    clock.at += MINUTE + MINUTE / 4
    expect(admitted(await many(take, 100, 100))).toBe(25)
    clock.at += MINUTE / 2
    expect(admitted(await many(take, 100, 100))).toBe(50)
  })

  it('drops requests that are two minutes old', async () => {
    const { take, clock } = alone()
    await many(take, 100, 100)
    clock.at += 2 * MINUTE
    expect(admitted(await many(take, 100, 100))).toBe(100)
  })

  const history = fc.array(
    fc.record({ after: fc.nat({ max: MINUTE + 5000 }), requests: fc.integer({ min: 1, max: 12 }) }),
    { minLength: 1, maxLength: 20 },
  )

  it('never admits more than the limit in a minute of the clock', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 10 }), history, async (limit, history) => {
        const { take, clock } = alone()
        const byMinute = new Map<number, number>()
        for (const { after, requests } of history) {
          clock.at += after
          const minute = Math.floor(clock.at / MINUTE)
          byMinute.set(minute, (byMinute.get(minute) ?? 0) + admitted(await many(take, requests, limit)))
        }
        expect(Math.max(...byMinute.values())).toBeLessThanOrEqual(limit)
      }),
    )
  })

  it('returns the exact wait: after it a request is admitted, and a millisecond earlier none is', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 10 }), history, async (limit, history) => {
        const { take, clock } = alone()
        let refused: Take | undefined
        for (const { after, requests } of history) {
          clock.at += after
          refused = (await many(take, requests, limit)).find(one => !one.ok)
        }
        if (!refused || refused.ok) return
        clock.at += refused.ms - 1
        if (refused.ms > 1) expect((await take('key', limit)).ok).toBe(false)
        clock.at += 1
        expect((await take('key', limit)).ok).toBe(true)
      }),
      { numRuns: 500 },
    )
  })
})

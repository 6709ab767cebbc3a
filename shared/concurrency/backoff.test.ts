import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { backoff } from './backoff.ts'

const options = { baseMs: 500, maxMs: 30_000 }

describe('backoff', () => {
  it('is between 0 and a bound that doubles with every try, up to the maximum', () => {
    const bounds = [1, 2, 3, 4, 5, 6, 7, 8, 1000, 5000].map(tries => backoff(tries, { ...options, random: () => 1 }))
    expect(bounds).toEqual([500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000])
    expect(backoff(5, { ...options, random: () => 0 })).toBe(0)
    expect(backoff(2, { ...options, random: () => 0.25 })).toBe(250)
  })

  it('stays within its bounds', () => {
    const tries = fc.integer({ min: 1, max: 100 })
    const ms = fc.integer({ min: 1, max: 3_600_000 })
    fc.assert(
      fc.property(tries, ms, ms, (tries, baseMs, maxMs) => {
        const wait = backoff(tries, { baseMs, maxMs })
        expect(wait).toBeGreaterThanOrEqual(0)
        expect(wait).toBeLessThanOrEqual(Math.min(maxMs, baseMs * 2 ** (tries - 1)))
      }),
    )
  })
})

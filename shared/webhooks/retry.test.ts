import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseRetryAfter, retryDelayMs } from './retry.ts'

const HOUR = 3_600_000

describe('the delay before the next attempt', () => {
  it('is random below a bound that doubles up to an hour', () => {
    const bounds = [1, 2, 3, 9, 10, 11, 500].map(attempts => retryDelayMs(attempts, null, () => 1))
    expect(bounds).toEqual([10_000, 20_000, 40_000, 2_560_000, HOUR, HOUR, HOUR])
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 32_767 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (attempts, random) => {
          const wait = retryDelayMs(attempts, null, () => random)
          expect(wait).toBeCloseTo(random * Math.min(HOUR, 10_000 * 2 ** (attempts - 1)), 3)
        },
      ),
    )
  })

  it('is at least the Retry-After of the receiver, up to an hour', () => {
    expect(retryDelayMs(1, 120_000, () => 0.5)).toBe(120_000)
    expect(retryDelayMs(1, 1, () => 0.5)).toBe(5000)
    expect(retryDelayMs(1, 100 * HOUR, () => 0.5)).toBe(HOUR)
  })
})

describe('Retry-After', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  it.each([
    ['120', 120_000],
    [' 0 ', 0],
    ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
    ['Thu, 01 Jan 2025 00:01:00 GMT', 0],
    ['soon', null],
    ['-1', null],
    ['1.5', null],
    ['99999999999', null],
    ['', null],
    [undefined, null],
  ])('%j is %j ms', (header, ms) => expect(parseRetryAfter(header, now)).toBe(ms))
})

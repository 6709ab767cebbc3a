import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { withoutOverlaps } from './findings.ts'

const findings = fc.array(
  fc
    .record({ type: fc.constantFrom('a', 'b', 'c'), start: fc.nat(30), length: fc.integer({ min: 1, max: 8 }) })
    .map(({ type, start, length }) => ({ type, start, end: start + length })),
)
type One = { type: string; start: number; end: number }
const overlap = (a: One, b: One) => a.start < b.end && b.start < a.end

describe('withoutOverlaps', () => {
  it('keeps the more specific of two findings', () => {
    const long = { type: 'b', start: 0, end: 9 }
    const short = { type: 'a', start: 3, end: 5 }
    expect(withoutOverlaps([long, short], ['a', 'b'])).toEqual([short])
    expect(withoutOverlaps([long, short], ['b', 'a'])).toEqual([long])
  })

  it('returns sorted findings without overlaps, and drops one only for a finding that is at least as specific', () => {
    fc.assert(
      fc.property(findings, all => {
        const kept = withoutOverlaps(all, ['a', 'b', 'c'])
        kept.slice(1).forEach((one, i) => {
          expect(one.start).toBeGreaterThanOrEqual(kept[i]!.end)
        })
        for (const one of all) {
          expect(kept.includes(one) || kept.some(other => overlap(one, other) && other.type <= one.type)).toBe(true)
        }
      }),
    )
  })
})

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { depthFor, fairShares, inTurns, MAX, MAX_DELAYED, MIN } from './shares.ts'

describe('the depth of the queue', () => {
  it('is 0.4 s or two rounds of work at the last rate, within its bounds', () => {
    expect(depthFor(0, 0.1)).toBe(MIN)
    expect(depthFor(100, 0.1)).toBe(400)
    expect(depthFor(100, 1)).toBe(200)
    expect(depthFor(100_000, 0.1)).toBe(MAX)
  })
})

const flows = fc.array(
  fc.record({ weight: fc.integer({ min: 1, max: 100 }), waiting: fc.nat(3000), delayed: fc.nat(3000) }),
  { minLength: 1, maxLength: 50 },
)
const depth = fc.integer({ min: MIN, max: MAX })

describe('the share of a flow', () => {
  it('is by weight, less its tasks in the queue', () => {
    const flow = (weight: number, waiting: number) => ({ weight, waiting, delayed: 0 })
    expect(fairShares([flow(1, 0), flow(3, 0)], 400)).toEqual([100, 300])
    expect(fairShares([flow(1, 500), flow(1, 50)], 400)).toEqual([0, 150])
  })

  it('keeps waiting tasks within the depth, except for one per flow', () => {
    fc.assert(
      fc.property(flows, depth, (flows, depth) => {
        const room = fairShares(flows, depth)
        const whole = flows.reduce((sum, flow) => sum + flow.weight, 0)
        for (const [index, { weight, waiting, delayed }] of flows.entries()) {
          expect(room[index]).toBeGreaterThanOrEqual(0)
          if (room[index] === 0) continue
          const share = Math.max(1, Math.ceil((depth * weight) / whole))
          expect(waiting + room[index]!).toBeLessThanOrEqual(share)
          expect(waiting + delayed + room[index]!).toBeLessThanOrEqual(share + MAX_DELAYED)
        }
      }),
    )
  })

  it('is at least one for a flow with nothing in the queue', () => {
    fc.assert(
      fc.property(flows, depth, (flows, depth) => {
        const empty = { weight: 1, waiting: 0, delayed: 0 }
        expect(fairShares([...flows, empty], depth).at(-1)).toBeGreaterThan(0)
      }),
    )
  })
})

describe('inTurns', () => {
  it('takes one of each group in turn and loses none', () => {
    expect(inTurns([['a1', 'a2', 'a3'], ['b1'], ['c1', 'c2']])).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3'])
    expect(inTurns([])).toEqual([])
  })
})

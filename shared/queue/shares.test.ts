import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { depthFor, inTurns, LEAST, MOST, MOST_DELAYED, rooms } from './shares.ts'

describe('the depth of the queue', () => {
  it('is 0.4 s of work at the pace of the last look, two looks at least, within its bounds', () => {
    expect(depthFor(0, 0.1)).toBe(LEAST)
    expect(depthFor(100, 0.1)).toBe(400)
    expect(depthFor(100, 1)).toBe(200)
    expect(depthFor(100_000, 0.1)).toBe(MOST)
  })
})

const flows = fc.array(
  fc.record({ weight: fc.integer({ min: 1, max: 100 }), waiting: fc.nat(3000), delayed: fc.nat(3000) }),
  { minLength: 1, maxLength: 50 },
)
const depth = fc.integer({ min: LEAST, max: MOST })

describe('the room of a flow', () => {
  it('is its share by weight, less what it has', () => {
    const flow = (weight: number, waiting: number) => ({ weight, waiting, delayed: 0 })
    expect(rooms([flow(1, 0), flow(3, 0)], 400)).toEqual([100, 300])
    expect(rooms([flow(1, 500), flow(1, 50)], 400)).toEqual([0, 150])
  })

  it('keeps what waits within the depth, but for the one that every flow may have', () => {
    fc.assert(
      fc.property(flows, depth, (flows, depth) => {
        const room = rooms(flows, depth)
        const whole = flows.reduce((sum, flow) => sum + flow.weight, 0)
        for (const [index, { weight, waiting, delayed }] of flows.entries()) {
          expect(room[index]).toBeGreaterThanOrEqual(0)
          if (room[index] === 0) continue
          const share = Math.max(1, Math.ceil((depth * weight) / whole))
          expect(waiting + room[index]!).toBeLessThanOrEqual(share)
          expect(waiting + delayed + room[index]!).toBeLessThanOrEqual(share + MOST_DELAYED)
        }
      }),
    )
  })

  it('is never nothing for a flow that has nothing in the queue', () => {
    fc.assert(
      fc.property(flows, depth, (flows, depth) => {
        const empty = { weight: 1, waiting: 0, delayed: 0 }
        expect(rooms([...flows, empty], depth).at(-1)).toBeGreaterThan(0)
      }),
    )
  })
})

describe('turns', () => {
  it('are one of each in turn, and lose nothing', () => {
    expect(inTurns([['a1', 'a2', 'a3'], ['b1'], ['c1', 'c2']])).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3'])
    expect(inTurns([])).toEqual([])
  })
})

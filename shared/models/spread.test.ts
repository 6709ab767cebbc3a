import fc from 'fast-check'
import { expect, it } from 'vitest'
import { spread } from './spread.ts'

const one = (name: string, group: string, weight?: number) => ({ name, group, weight })

/** Evenly spaced numbers in a random order, so that shares are exact enough to compare. */
function shares(candidates: ReturnType<typeof one>[]): Map<string, number> {
  let state = 1
  const random = () => {
    state = (state * 48_271) % 2_147_483_647
    return state / 2_147_483_647
  }
  const first = new Map<string, number>()
  for (let n = 0; n < 20_000; n++) {
    const { name } = spread(candidates, random)[0]!
    first.set(name, (first.get(name) ?? 0) + 1 / 20_000)
  }
  return first
}

it('the members of a group come first in proportion to their weights', () => {
  const first = shares([one('a', 'g', 3), one('b', 'g', 1), one('c', 'g', 0)])
  expect(first.get('a')).toBeCloseTo(0.75, 1)
  expect(first.get('b')).toBeCloseTo(0.25, 1)
  expect(first.get('c')).toBeUndefined()
})

it('a group without weights keeps the order of the operator', () => {
  const candidates = [one('a', 'g'), one('b', 'g'), one('c', 'h', 1)]
  expect(spread(candidates, Math.random)).toEqual(candidates)
})

it('every candidate stays, and each group keeps its positions', () => {
  const candidate = fc.record({
    group: fc.constantFrom('g', 'h'),
    weight: fc.option(fc.integer({ min: 0, max: 5 }), { nil: undefined }),
  })
  fc.assert(
    fc.property(
      fc.array(candidate),
      fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
      (list, numbers) => {
        const ordered = spread(list, () => numbers.next().value)
        expect(new Set(ordered)).toEqual(new Set(list))
        expect(ordered.map(each => each.group)).toEqual(list.map(each => each.group))
      },
    ),
  )
})

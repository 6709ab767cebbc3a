import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type ChunkSlots, createLineConcurrency } from './line-concurrency.ts'

const startAll = (chunk: ChunkSlots) => {
  let started = 0
  for (; chunk.mayStart(); started++) chunk.started()
  return started
}

it('a single chunk may run all lines, and two chunks half of them each', () => {
  const lines = createLineConcurrency(() => 10)
  const first = lines.enter()
  expect(startAll(first)).toBe(10)
  const second = lines.enter()
  expect(startAll(second)).toBe(0)
  for (let n = 0; n < 10; n++) first.ended(false)
  expect(startAll(first)).toBe(5)
  expect(startAll(second)).toBe(5)
})

it('a slow line frees its slot for another line, up to a bound', () => {
  const lines = createLineConcurrency(() => 2)
  const chunk = lines.enter()
  let slow = 0
  for (let n = 0; n < 20; n++) {
    startAll(chunk)
    if (chunk.slow()) slow++
  }
  expect(slow).toBe(8)
  for (let n = 0; n < 8; n++) chunk.ended(true)
  expect(chunk.mayStart()).toBe(false)
})

it('the total never exceeds the maximum, and every chunk gets at least one line', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 6 }),
      fc.array(fc.tuple(fc.nat({ max: 5 }), fc.boolean())),
      (most, chunks, steps) => {
        const lines = createLineConcurrency(() => most)
        const all = Array.from({ length: chunks }, () => ({ slots: lines.enter(), own: 0 }))
        const total = () => all.reduce((sum, one) => sum + one.own, 0)
        for (const [index, begin] of steps) {
          const one = all[index % chunks]!
          if (begin && one.slots.mayStart()) {
            one.slots.started()
            one.own++
          } else if (one.own > 0) {
            one.slots.ended(false)
            one.own--
          }
          expect(total()).toBeLessThanOrEqual(most)
        }
        for (const one of all) for (; one.own > 0; one.own--) one.slots.ended(false)
        for (const one of all) {
          expect(one.slots.mayStart()).toBe(true)
          one.slots.started()
          one.slots.ended(false)
        }
      },
    ),
  )
})

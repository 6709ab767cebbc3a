import fc from 'fast-check'
import { expect, it } from 'vitest'
import { type ChunkShare, createShare } from './share.ts'

const startAll = (chunk: ChunkShare) => {
  let started = 0
  for (; chunk.mayStart(); started++) chunk.started()
  return started
}

it('a chunk that is alone has all lines, and half of them beside another', () => {
  const share = createShare(() => 10)
  const first = share.enter()
  expect(startAll(first)).toBe(10)
  const second = share.enter()
  expect(startAll(second)).toBe(0)
  for (let n = 0; n < 10; n++) first.ended(false)
  expect(startAll(first)).toBe(5)
  expect(startAll(second)).toBe(5)
})

it('a slow line makes room for another, up to a bound', () => {
  const share = createShare(() => 2)
  const chunk = share.enter()
  let slow = 0
  for (let n = 0; n < 20; n++) {
    startAll(chunk)
    if (chunk.slow()) slow++
  }
  expect(slow).toBe(8)
  for (let n = 0; n < 8; n++) chunk.ended(true)
  expect(chunk.mayStart()).toBe(false)
})

it('never are there more lines than may be, and each chunk comes to run one', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 6 }),
      fc.array(fc.tuple(fc.nat({ max: 5 }), fc.boolean())),
      (most, chunks, steps) => {
        const share = createShare(() => most)
        const all = Array.from({ length: chunks }, () => ({ share: share.enter(), own: 0 }))
        const total = () => all.reduce((sum, one) => sum + one.own, 0)
        for (const [index, begin] of steps) {
          const one = all[index % chunks]!
          if (begin && one.share.mayStart()) {
            one.share.started()
            one.own++
          } else if (one.own > 0) {
            one.share.ended(false)
            one.own--
          }
          expect(total()).toBeLessThanOrEqual(most)
        }
        for (const one of all) for (; one.own > 0; one.own--) one.share.ended(false)
        for (const one of all) {
          expect(one.share.mayStart()).toBe(true)
          one.share.started()
          one.share.ended(false)
        }
      },
    ),
  )
})

import { expect, it } from 'vitest'
import { linesAtOnce, nextLimit } from './lines-at-once.ts'

const after = (from: number, most: number, utilization: number) => {
  let limit = from
  for (let n = 0; n < 20; n++) limit = nextLimit(limit, most, utilization)
  return limit
}

it('a busy event loop has few lines at once, one that waits has all that it may', () => {
  expect(after(100, 100, 0.99)).toBe(16)
  expect(after(16, 100, 0.1)).toBe(100)
  expect(after(50, 100, 0.8)).toBe(50)
})

it('never are there more than the setting says', () => {
  expect(after(4, 4, 0.99)).toBe(4)
  expect(after(1, 1, 0.1)).toBe(1)
  expect(linesAtOnce(3)()).toBe(3)
})

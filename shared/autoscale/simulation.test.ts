import { expect, test } from 'vitest'
import { DAY, simulate, smallestFixed } from './simulation.ts'

test('over a day with bursts, an outage and a storm of refusals no task waits for too long in 95% of the time, with fewer worker-minutes than any fixed fleet that does the same', {
  timeout: 60_000,
}, () => {
  const scaled = simulate(DAY, null)
  const fixed = smallestFixed(DAY, 0.95)
  expect(scaled.held).toBeGreaterThanOrEqual(0.95)
  expect(fixed.outcome.held).toBeGreaterThanOrEqual(0.95)
  expect(simulate(DAY, fixed.workers - 1).held).toBeLessThan(0.95)
  expect(scaled.workerMinutes).toBeLessThan(fixed.outcome.workerMinutes)
  // A fifth of the day at night would do for "fewer"; what it is to save is half.
  expect(scaled.workerMinutes / fixed.outcome.workerMinutes).toBeLessThan(0.6)
})

test('on other days, too', { timeout: 60_000 }, () => {
  for (const seed of [1, 2, 3]) {
    const scaled = simulate({ ...DAY, seed }, null)
    expect(scaled.held).toBeGreaterThanOrEqual(0.95)
  }
})

test('what came was answered, or is still there', () => {
  for (const outcome of [simulate(DAY, null), simulate(DAY, 3)])
    expect(outcome.answered + outcome.left).toBe(outcome.arrived)
})

test('the same day gives the same figures', () => {
  expect(simulate(DAY, null)).toEqual(simulate(DAY, null))
})

test('while the provider is down the fleet shrinks, and it is there again when that is over', () => {
  const { samples } = simulate(DAY, null)
  const down = samples.slice(DAY.outage.from + 300, DAY.outage.to)
  expect(Math.max(...down.map(one => one.workers))).toBeLessThanOrEqual(2)
  const after = samples.slice(DAY.outage.to, DAY.outage.to + 300)
  expect(Math.max(...after.map(one => one.workers))).toBeGreaterThan(5)
})

import { expect, test } from 'vitest'
import { DAY, simulate, smallestFixed } from './autoscale-simulation.ts'

test('autoscaling meets the target for 95% of a day with bursts, an outage and refusals, with fewer worker-minutes than a fixed fleet', {
  timeout: 60_000,
}, () => {
  const scaled = simulate(DAY, null)
  const fixed = smallestFixed(DAY, 0.95)
  expect(scaled.held).toBeGreaterThanOrEqual(0.95)
  expect(fixed.outcome.held).toBeGreaterThanOrEqual(0.95)
  expect(simulate(DAY, fixed.workers - 1).held).toBeLessThan(0.95)
  expect(scaled.workerMinutes).toBeLessThan(fixed.outcome.workerMinutes)
  // The quiet nights alone would save something; autoscaling must save about half.
  expect(scaled.workerMinutes / fixed.outcome.workerMinutes).toBeLessThan(0.6)
})

test('autoscaling meets the target on days with other arrivals', { timeout: 60_000 }, () => {
  for (const seed of [1, 2, 3]) {
    const scaled = simulate({ ...DAY, seed }, null)
    expect(scaled.held).toBeGreaterThanOrEqual(0.95)
  }
})

test('every task of the day is answered or left at its end', () => {
  for (const outcome of [simulate(DAY, null), simulate(DAY, 3)])
    expect(outcome.answered + outcome.left).toBe(outcome.arrived)
})

test('the same seed gives the same outcome', () => {
  expect(simulate(DAY, null)).toEqual(simulate(DAY, null))
})

test('the fleet shrinks while the provider is down and grows again afterwards', () => {
  const { samples } = simulate(DAY, null)
  const down = samples.slice(DAY.outage.from + 300, DAY.outage.to)
  expect(Math.max(...down.map(one => one.workers))).toBeLessThanOrEqual(2)
  const after = samples.slice(DAY.outage.to, DAY.outage.to + 300)
  expect(Math.max(...after.map(one => one.workers))).toBeGreaterThan(5)
})

import { describe, expect, it } from 'vitest'
import { compareArms, costPerConversion, holm, twoProportions, twoSidedP, wilson } from './statistics.ts'

describe('wilson', () => {
  it('is (0.0552, 0.1744) for 10 of 100', () => {
    // z² = 3.841459; (0.1 + 0.019207 ± 1.959964 √(0.0009 + 0.000096036)) / 1.038415 = 0.114797 ± 0.059568
    const [low, high] = wilson(10, 100)
    expect(low).toBeCloseTo(0.05523, 5)
    expect(high).toBeCloseTo(0.17437, 5)
  })

  it('has width z²/(n + z²) if none or all converted, and is 0 to 1 without users', () => {
    // 3.841459 / 13.841459
    expect(wilson(0, 10)[0]).toBeCloseTo(0, 12)
    expect(wilson(0, 10)[1]).toBeCloseTo(0.277533, 6)
    expect(wilson(10, 10)[0]).toBeCloseTo(0.722467, 6)
    expect(wilson(10, 10)[1]).toBeCloseTo(1, 12)
    expect(wilson(0, 0)).toEqual([0, 1])
  })
})

it.each([
  [0, 1],
  [1.959963985, 0.05],
  [-2.575829304, 0.01],
  [3.290526731, 0.001],
  [4.891638475, 1e-6],
])('the two-sided p of z = %d is %d, as in the tables of the normal distribution', (z, p) => {
  expect(Math.abs(twoSidedP(z) / p - 1)).toBeLessThan(1e-6)
})

describe('twoProportions', () => {
  it('is z = 2.3094 for 50 and 75 of 1000', () => {
    // p = 125/2000; √(0.0625 × 0.9375 × 0.002) = 0.0108253; 0.025 / 0.0108253 = 4/√3; 2(1 - Φ(2.3094)) = 0.0209
    const test = twoProportions({ users: 1000, conversions: 50 }, { users: 1000, conversions: 75 })!
    expect(test.z).toBeCloseTo(4 / Math.sqrt(3), 10)
    expect(test.pValue).toBeCloseTo(0.0209, 4)
    expect(test.approximates).toBe(true)
  })

  it('is negative for an arm below the control, and marks small numbers', () => {
    const test = twoProportions({ users: 20, conversions: 4 }, { users: 20, conversions: 1 })!
    expect(test.z).toBeLessThan(0)
    expect(test.approximates).toBe(false)
  })

  it('is null without users, and if none or all converted', () => {
    expect(twoProportions({ users: 0, conversions: 0 }, { users: 5, conversions: 2 })).toBeNull()
    expect(twoProportions({ users: 0, conversions: 0 }, { users: 0, conversions: 0 })).toBeNull()
    expect(twoProportions({ users: 5, conversions: 0 }, { users: 5, conversions: 0 })).toBeNull()
    expect(twoProportions({ users: 5, conversions: 5 }, { users: 5, conversions: 5 })).toBeNull()
  })
})

it('Holm’s correction of 0.01, 0.04 and 0.03 is 0.03, 0.06 and 0.06', () => {
  // In order: 3 × 0.01; 2 × 0.03; 1 × 0.04, but not less than the previous one.
  const adjusted = holm([0.01, 0.04, 0.03])
  for (const [i, p] of [0.03, 0.06, 0.06].entries()) expect(adjusted[i]).toBeCloseTo(p, 12)
  expect(holm([0.7, 0.6])).toEqual([1, 1])
  expect(holm([0.2])).toEqual([0.2])
})

it('the cost per conversion is exact to the picodollar, rounded half up', () => {
  expect(costPerConversion('1', 3)).toBe('0.333333333333')
  expect(costPerConversion('2.000000000000', 3)).toBe('0.666666666667')
  expect(costPerConversion('0.000000000001', 2)).toBe('0.000000000001')
  expect(costPerConversion('90071992547409.930000000001', 1)).toBe('90071992547409.930000000001')
  expect(costPerConversion('1', 0)).toBeNull()
})

describe('compareArms', () => {
  it('compares every arm with the first, and corrects for their number', () => {
    const [control, better, none, same] = compareArms([
      { name: 'control', users: 1000, conversions: 50, costUsd: '1.5' },
      { name: 'better', users: 1000, conversions: 75, costUsd: '3' },
      { name: 'none', users: 0, conversions: 0, costUsd: '0' },
      { name: 'same', users: 1000, conversions: 50, costUsd: '1' },
    ])
    expect(control).toMatchObject({ name: 'control', rate: 0.05, costPerConversionUsd: '0.030000000000', test: null })
    expect(better!.test!.adjustedPValue).toBeCloseTo(2 * better!.test!.pValue, 12)
    expect(none).toEqual({ name: 'none', rate: null, interval: [0, 1], costPerConversionUsd: null, test: null })
    expect(same!.test).toMatchObject({ z: 0, adjustedPValue: 1 })
  })

  it('returns an empty list without arms', () => {
    expect(compareArms([])).toEqual([])
  })
})

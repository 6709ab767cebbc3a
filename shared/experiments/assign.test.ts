import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { assignVariant } from './assign.ts'

const THREE = [
  { name: 'control', weight: 50 },
  { name: 'short', weight: 30 },
  { name: 'long', weight: 20 },
]
const USERS = Array.from({ length: 100_000 }, (_, i) => `user-${i}`)
const chosen = (variants: typeof THREE, users = USERS, name = 'greeting') =>
  users.map(user => assignVariant(name, user, variants)!.name)
const count = (names: string[], name: string) => names.filter(one => one === name).length

describe('assignVariant', () => {
  it('distributes 100,000 users within 1% of the weights, as evenly as chance', () => {
    const names = chosen(THREE)
    let chiSquare = 0
    for (const { name, weight } of THREE) {
      const expected = (USERS.length * weight) / 100
      expect(Math.abs(count(names, name) - expected)).toBeLessThan(USERS.length / 100)
      chiSquare += (count(names, name) - expected) ** 2 / expected
    }
    // The 99.9 % quantile of chi-square with two degrees of freedom is -2 ln 0.001.
    expect(chiSquare).toBeLessThan(-2 * Math.log(0.001))
  })

  it('moves users only to the variant with the higher weight', () => {
    const variants = fc.array(fc.nat({ max: 100 }), { minLength: 2, maxLength: 5 }).map(weights =>
      // At least one variant has weight.
      [1, ...weights].map((weight, i) => ({ name: `v${i}`, weight })),
    )
    const users = USERS.slice(0, 200)
    fc.assert(
      fc.property(variants, fc.nat(), fc.integer({ min: 1, max: 1000 }), (before, pick, more) => {
        const grown = before[pick % before.length]!.name
        const after = before.map(one => (one.name === grown ? { ...one, weight: one.weight + more } : one))
        const old = chosen(before, users)
        for (const [i, name] of chosen(after, users).entries()) expect([old[i], grown]).toContain(name)
        for (const [i, name] of chosen(after, users).entries()) if (old[i] === grown) expect(name).toBe(grown)
      }),
    )
  })

  it('moves about as many users as the weight requires', () => {
    const after = chosen(THREE.map(one => (one.name === 'long' ? { ...one, weight: 120 } : one)))
    expect(count(after, 'long') / USERS.length).toBeCloseTo(0.6, 2)
  })

  it('does not depend on the order of the variants or the unit of the weights', () => {
    const users = USERS.slice(0, 1000)
    expect(chosen(THREE.toReversed(), users)).toEqual(chosen(THREE, users))
    expect(
      chosen(
        THREE.map(one => ({ ...one, weight: one.weight / 64 })),
        users,
      ),
    ).toEqual(chosen(THREE, users))
  })

  it('assigns independently in another experiment', () => {
    const some = USERS.slice(0, 20_000)
    const [one, other] = [chosen(THREE, some, 'one'), chosen(THREE, some, 'other')]
    const same = one.filter((name, i) => name === other[i]).length / some.length
    // Expected by chance: 0.5² + 0.3² + 0.2².
    expect(same).toBeCloseTo(0.38, 1)
  })

  it('never chooses a variant of weight 0, and returns null if all weights are 0', () => {
    const names = chosen([...THREE, { name: 'off', weight: 0 }])
    expect(count(names, 'off')).toBe(0)
    expect(assignVariant('greeting', 'user', [{ name: 'off', weight: 0 }])).toBeNull()
    expect(assignVariant('greeting', 'user', [])).toBeNull()
  })
})

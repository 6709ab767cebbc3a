import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalJson } from './canonical.ts'

/** The same value with a different key order in every object. */
function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, child]) => [key, reversed(child)]),
  )
}
const json = fc.jsonValue().map(value => JSON.parse(JSON.stringify(value)) as unknown)

describe('canonicalJson', () => {
  it('is equal for equal values, whatever the order of their keys', () => {
    fc.assert(
      fc.property(json, value => {
        expect(canonicalJson(reversed(value))).toBe(canonicalJson(value))
      }),
    )
  })

  it('is complete: parsing it returns the value', () => {
    fc.assert(
      fc.property(json, value => {
        expect(JSON.parse(canonicalJson(value))).toEqual(value)
      }),
    )
  })

  it('distinguishes values that differ in list order, type or an absent key', () => {
    const texts = [[1, 2], [2, 1], ['1', '2'], [{ a: null }], [{}], [null], []].map(canonicalJson)
    expect(new Set(texts).size).toBe(texts.length)
  })

  it('sorts by code units, not by locale', () => {
    expect(canonicalJson({ ä: 1, b: 2, Z: 3, a: { d: 1, c: 2 } })).toBe('{"Z":3,"a":{"c":2,"d":1},"b":2,"ä":1}')
  })

  it('keeps a key named __proto__', () => {
    expect(canonicalJson(JSON.parse('{"__proto__":{"b":1},"a":1}'))).toBe('{"__proto__":{"b":1},"a":1}')
  })
})

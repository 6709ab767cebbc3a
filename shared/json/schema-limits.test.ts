import { describe, expect, it } from 'vitest'
import { limitViolation, SCHEMA_LIMITS, sizeOfPattern } from './schema-limits.ts'

const many = <T>(count: number, of: (n: number) => T) => Array.from({ length: count }, (_, n) => of(n))
const named = (count: number, of: (n: number) => unknown) =>
  Object.fromEntries(many(count, n => [`p${n}`, of(n)] as const))

describe('the size of a schema', () => {
  it('counts keywords and subschemas', () => {
    const most = (SCHEMA_LIMITS.keywords - 2) / 2
    expect(limitViolation({ properties: named(most, () => ({ type: 'string' })) })).toBeNull()
    expect(limitViolation({ properties: named(most + 1, () => ({ type: 'string' })) })).toMatch(/keywords/)
    expect(limitViolation({ oneOf: many(most + 1, () => ({ type: 'string' })) })).toMatch(/keywords/)
    expect(limitViolation({ $defs: { a: { items: { prefixItems: many(2000, () => ({})) } } } })).toMatch(/keywords/)
  })

  it('does not count annotations and plain values', () => {
    expect(limitViolation({ description: 'x'.repeat(60_000), examples: many(5000, n => n) })).toBeNull()
    expect(limitViolation({ required: many(5000, n => `p${n}`) })).toBeNull()
    expect(limitViolation({ enum: many(5000, n => n) })).toMatch(/enum values/)
  })

  it('counts targets of references outside all keywords', () => {
    expect(limitViolation({ $ref: '#/x-mine', 'x-mine': { anyOf: many(2000, () => ({})) } })).toMatch(/keywords/)
  })

  it('counts the definitions that are referenced', () => {
    const schema = (count: number) => ({
      $defs: named(count, () => ({})),
      properties: named(count, n => ({ $ref: `#/$defs/p${n}` })),
    })
    expect(limitViolation(schema(100))).toBeNull()
    expect(limitViolation(schema(101))).toMatch(/definitions/)
  })

  it('is not checked for an invalid schema', () => {
    const nonsense = {
      properties: [null, 1],
      allOf: 'x',
      items: null,
      $ref: 7,
      dependentRequired: 3,
      patternProperties: 1,
    }
    expect(limitViolation(nonsense)).toBeNull()
    expect(limitViolation({ $ref: '#/%E0%A4%A', allOf: [{ $ref: '#nobody' }, { $ref: 'elsewhere#/a' }] })).toBeNull()
  })
})

describe('the size of a pattern', () => {
  it.each([
    ['abc', 3],
    ['a{5}', 5],
    ['a{2,5}b', 6],
    ['a{5,}', 5],
    ['\\p{L}{10}[a-z\\]{9}]{10}', 20],
    ['\\{10}', 1 + 3],
  ])('%s: %i', (pattern, size) => expect(sizeOfPattern(pattern)).toBe(size))

  it('multiplies the repetitions of nested groups', () => {
    expect(sizeOfPattern('(?:(?:a{10}){10}){10}')).toBeGreaterThanOrEqual(1000)
    expect(sizeOfPattern('(a|b{10}')).toBeGreaterThanOrEqual(10)
  })

  it('is bounded for all patterns together', () => {
    expect(limitViolation({ pattern: '^[a-z]{1,1000}$' })).toBeNull()
    expect(limitViolation({ pattern: 'a{0,1000}'.repeat(6) })).toMatch(/repeat/)
    expect(limitViolation({ pattern: '\\p{L}'.repeat(1000) })).toMatch(/characters/)
    const properties = named(30, n => ({ pattern: `${n}${'x'.repeat(200)}` }))
    expect(limitViolation({ properties })).toMatch(/characters/)
    const patternProperties = Object.fromEntries(many(30, n => [`${n}${'x'.repeat(200)}`, {}] as const))
    expect(limitViolation({ patternProperties })).toMatch(/characters/)
    expect(limitViolation({ properties: named(900, () => ({ pattern: '^[a-z]{1,1000}$' })) })).toBeNull()
  })
})

describe('the schemas that apply to a value', () => {
  /** Each definition references the next one twice. */
  const doubling = (keyword: string, levels: number) => ({
    $ref: '#/$defs/p0',
    $defs: {
      ...named(levels, n => ({ [keyword]: [{ $ref: `#/$defs/p${n + 1}` }, { $ref: `#/$defs/p${n + 1}` }] })),
      [`p${levels}`]: { type: 'null' },
    },
  })

  it.each(['allOf', 'anyOf', 'oneOf'])('must not multiply along references (%s)', keyword => {
    expect(limitViolation(doubling(keyword, 5))).toBeNull()
    expect(limitViolation(doubling(keyword, 50))).toMatch(/more than 10000 schemas/)
  })

  it.each([
    ['itself', { $ref: '#' }],
    ['itself, among others', { anyOf: [{ type: 'null' }, { $ref: '#' }] }],
    ['itself, by its id', { $id: 'mine', not: { $ref: 'mine' } }],
    ['itself, by an anchor', { allOf: [{ $anchor: 'here', if: { $ref: '#here' } }] }],
    ['itself, by a pointer with escapes', { $ref: '#/$defs/a~1%62', $defs: { 'a/b': { $ref: '#/$defs/a~1b' } } }],
    [
      'one that refers back',
      {
        $ref: '#/$defs/a',
        $defs: { a: { dependentSchemas: { x: { $ref: '#/$defs/b' } } }, b: { else: { $ref: '#/$defs/a' } } },
      },
    ],
    ['an unused definition that does so', { $defs: { a: { $ref: '#/$defs/a' } } }],
    ['its own root, which has an id', { $defs: { a: { $id: 'a', oneOf: [{ $ref: '#' }] } } }],
  ])('must not be %s', (_, schema) => expect(limitViolation(schema)).toMatch(/refers to itself/))

  it.each([
    ['a tree', { $defs: { n: { properties: { kids: { items: { $ref: '#/$defs/n' } } } } }, $ref: '#/$defs/n' }],
    ['a list of itself', { anyOf: [{ type: 'null' }, { type: 'array', items: { $ref: '#' } }] }],
    [
      'one by an id, as TypeBox writes them',
      { $defs: { A: { $id: 'A', additionalProperties: { $ref: 'A' } } }, $ref: 'A' },
    ],
  ])('may be %s', (_, schema) => expect(limitViolation(schema)).toBeNull())
})

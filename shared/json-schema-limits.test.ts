import { describe, expect, it } from 'vitest'
import { complaintOfSchema, SCHEMA_LIMITS, sizeOfPattern } from './json-schema-limits.ts'

const many = <T>(count: number, of: (n: number) => T) => Array.from({ length: count }, (_, n) => of(n))
const named = (count: number, of: (n: number) => unknown) =>
  Object.fromEntries(many(count, n => [`p${n}`, of(n)] as const))

describe('the size of a schema', () => {
  it('is that of its keywords and sub-schemas', () => {
    const most = (SCHEMA_LIMITS.keywords - 2) / 2
    expect(complaintOfSchema({ properties: named(most, () => ({ type: 'string' })) })).toBeNull()
    expect(complaintOfSchema({ properties: named(most + 1, () => ({ type: 'string' })) })).toMatch(/keywords/)
    expect(complaintOfSchema({ oneOf: many(most + 1, () => ({ type: 'string' })) })).toMatch(/keywords/)
    expect(complaintOfSchema({ $defs: { a: { items: { prefixItems: many(2000, () => ({})) } } } })).toMatch(/keywords/)
  })

  it('is not that of what describes it, nor of texts that nothing has to be written for', () => {
    expect(complaintOfSchema({ description: 'x'.repeat(60_000), examples: many(5000, n => n) })).toBeNull()
    expect(complaintOfSchema({ required: many(5000, n => `p${n}`) })).toBeNull()
    expect(complaintOfSchema({ enum: many(5000, n => n) })).toMatch(/values of enums/)
  })

  it('counts what a reference points to outside of all keywords', () => {
    expect(complaintOfSchema({ $ref: '#/x-mine', 'x-mine': { anyOf: many(2000, () => ({})) } })).toMatch(/keywords/)
  })

  it('is that of its definitions, too, as far as they are referred to', () => {
    const schema = (count: number) => ({
      $defs: named(count, () => ({})),
      properties: named(count, n => ({ $ref: `#/$defs/p${n}` })),
    })
    expect(complaintOfSchema(schema(100))).toBeNull()
    expect(complaintOfSchema(schema(101))).toMatch(/definitions/)
  })

  it('is no matter of a schema that makes no sense', () => {
    const nonsense = {
      properties: [null, 1],
      allOf: 'x',
      items: null,
      $ref: 7,
      dependentRequired: 3,
      patternProperties: 1,
    }
    expect(complaintOfSchema(nonsense)).toBeNull()
    expect(complaintOfSchema({ $ref: '#/%E0%A4%A', allOf: [{ $ref: '#nobody' }, { $ref: 'elsewhere#/a' }] })).toBeNull()
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

  it('grows with what groups repeat of groups', () => {
    expect(sizeOfPattern('(?:(?:a{10}){10}){10}')).toBeGreaterThanOrEqual(1000)
    expect(sizeOfPattern('(a|b{10}')).toBeGreaterThanOrEqual(10)
  })

  it('is bounded, of all of them together', () => {
    expect(complaintOfSchema({ pattern: '^[a-z]{1,1000}$' })).toBeNull()
    expect(complaintOfSchema({ pattern: 'a{0,1000}'.repeat(6) })).toMatch(/repeat/)
    expect(complaintOfSchema({ pattern: '\\p{L}'.repeat(1000) })).toMatch(/characters/)
    const properties = named(30, n => ({ pattern: `${n}${'x'.repeat(200)}` }))
    expect(complaintOfSchema({ properties })).toMatch(/characters/)
    const patternProperties = Object.fromEntries(many(30, n => [`${n}${'x'.repeat(200)}`, {}] as const))
    expect(complaintOfSchema({ patternProperties })).toMatch(/characters/)
    expect(complaintOfSchema({ properties: named(900, () => ({ pattern: '^[a-z]{1,1000}$' })) })).toBeNull()
  })
})

describe('what a value is checked by', () => {
  /** Each definition asks twice for the next. */
  const doubling = (keyword: string, levels: number) => ({
    $ref: '#/$defs/p0',
    $defs: {
      ...named(levels, n => ({ [keyword]: [{ $ref: `#/$defs/p${n + 1}` }, { $ref: `#/$defs/p${n + 1}` }] })),
      [`p${levels}`]: { type: 'null' },
    },
  })

  it.each(['allOf', 'anyOf', 'oneOf'])('may not double along its references without end (%s)', keyword => {
    expect(complaintOfSchema(doubling(keyword, 5))).toBeNull()
    expect(complaintOfSchema(doubling(keyword, 50))).toMatch(/more than 10000 schemas/)
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
    ['one that does so and is referred to by nobody', { $defs: { a: { $ref: '#/$defs/a' } } }],
    ['the root of its own, which has an id', { $defs: { a: { $id: 'a', oneOf: [{ $ref: '#' }] } } }],
  ])('may not be %s', (_, schema) => expect(complaintOfSchema(schema)).toMatch(/refers to itself/))

  it.each([
    ['a tree', { $defs: { n: { properties: { kids: { items: { $ref: '#/$defs/n' } } } } }, $ref: '#/$defs/n' }],
    ['a list of itself', { anyOf: [{ type: 'null' }, { type: 'array', items: { $ref: '#' } }] }],
    [
      'one by an id, as TypeBox writes them',
      { $defs: { A: { $id: 'A', additionalProperties: { $ref: 'A' } } }, $ref: 'A' },
    ],
  ])('may be %s', (_, schema) => expect(complaintOfSchema(schema)).toBeNull())
})

import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { compileSchema, violation } from './schema.ts'

const wrong = (schema: Record<string, unknown>, value: unknown) => violation(compileSchema(schema), value)

afterEach(() => void vi.restoreAllMocks())

describe('a JSON Schema of a client', () => {
  it('accepts matching values and describes others', () => {
    const schema = {
      type: 'object',
      properties: { tags: { type: 'array', items: { type: 'string' } } },
      required: ['tags'],
    }
    expect(wrong(schema, { tags: ['a'] })).toBeNull()
    expect(wrong(schema, { tags: ['a', 1] })).toBe('/tags/1 must be string')
    expect(wrong(schema, {})).toBe("(root) must have required property 'tags'")
  })

  it('is read as draft 2020-12', () => {
    const schema = { prefixItems: [{ type: 'integer' }], items: false, $defs: { a: { type: 'null' } } }
    expect(wrong(schema, [1])).toBeNull()
    expect(wrong(schema, ['1'])).not.toBeNull()
    expect(wrong(schema, [1, 2])).not.toBeNull()
  })

  it('has its formats validated', () => {
    expect(wrong({ format: 'date-time' }, '2026-01-01T00:00:00Z')).toBeNull()
    expect(wrong({ format: 'date-time' }, 'tomorrow')).not.toBeNull()
  })

  it('may contain unknown keywords', () => expect(wrong({ 'x-order': 1, type: 'null' }, null)).toBeNull())

  it('may differ from an earlier one only in a value', () => {
    const [first, second] = [compileSchema({ const: 1 }), compileSchema({ const: 1 })]
    expect(second).toBe(first)
    expect(violation(second, 2)).not.toBeNull()
    expect(violation(first, 1)).toBeNull()
  })

  it('may share its $id with another schema', () => {
    expect(wrong({ $id: 'mine', const: 1 }, 1)).toBeNull()
    expect(wrong({ $id: 'mine', const: 2 }, 2)).toBeNull()
  })

  it.each([
    ['of an unknown type', { type: 'text' }],
    ['with a reference to nowhere', { $ref: '#/$defs/nothing' }],
    ['with a reference to another host', { $ref: 'https://example.com/schema.json' }],
    ['with an invalid pattern', { pattern: '(' }],
    // Validation would return a promise: every value would match, and the rejection would end the process.
    ['with $async', { $async: true, required: ['x'] }],
    ['with a look-ahead within a pattern', { pattern: 'a(?=b)' }],
    ['with a look-ahead of one alternative', { pattern: '^(?=a)b|c' }],
    ['with a nested $async', { allOf: [{ $async: true, required: ['x'] }] }],
  ])('is refused %s', (_, schema) => expect(() => compileSchema(schema)).toThrow(/./))

  it('keeps several patterns separate', () => {
    const validate = compileSchema({
      type: 'object',
      properties: { code: { pattern: '^[A-Z]{2}\\d+$' }, word: { pattern: '^\\p{L}+$' } },
      patternProperties: { '^x-': { type: 'number' } },
    })
    expect(violation(validate, { code: 'AB12', word: 'Éa', 'x-a': 1 })).toBeNull()
    for (const wrong of [{ code: 'aB12' }, { word: '1' }, { 'x-a': '1' }])
      expect(violation(validate, wrong)).not.toBeNull()
  })

  it('runs a pattern in linear time', () => {
    const validate = compileSchema({ type: 'string', pattern: '^(a+)+$' })
    expect(violation(validate, 'a'.repeat(50_000))).toBeNull()
    // A backtracking engine would practically never finish.
    expect(violation(validate, `${'a'.repeat(50_000)}!`)).toMatch(/pattern/)
  })

  it('is compiled once, also if compilation fails', () => {
    const refused = () => {
      try {
        compileSchema({ type: 'text', title: 'refused' })
        return null
      } catch (error) {
        return (error as Error).message
      }
    }
    const first = refused()
    expect(first).toMatch(/type/)
    const validateSchema = vi.spyOn(Ajv2020.prototype, 'validateSchema')
    expect(refused()).toBe(first)
    expect(validateSchema).not.toHaveBeenCalled()
  })

  it('is refused with a short message, whatever the error', () => {
    const properties = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`p${n}`, { type: 'text' }]))
    expect(() => compileSchema({ properties })).toThrow(/^.{10,500}$/)
  })

  it.each([
    ['what is too large', { enum: Array.from({ length: 5000 }, (_, n) => n) }],
    ['what never ends', { $ref: '#' }],
    ['patterns that are too large', { pattern: 'a{1000}'.repeat(100) }],
  ])('is not compiled: %s', (_, schema) => expect(() => compileSchema(schema)).toThrow(/^its? /))

  it('may refer to itself for values within a value', () => {
    const tree = {
      $ref: '#/$defs/node',
      $defs: {
        node: {
          type: 'object',
          required: ['kids'],
          properties: { kids: { type: 'array', items: { $ref: '#/$defs/node' } } },
        },
      },
    }
    const node = (levels: number): unknown => ({ kids: levels === 0 ? [] : [node(levels - 1), node(levels - 1)] })
    expect(wrong(tree, node(10))).toBeNull()
    expect(wrong(tree, { kids: [{ kids: [{}] }] })).toBe("/kids/0/kids/0 must have required property 'kids'")
  })

  it.each(['anyOf', 'allOf', 'oneOf'])('does not take twice as long for each level of an answer (%s)', keyword => {
    const list = { type: 'array', items: { [keyword]: [{ $ref: '#/$defs/list' }, { $ref: '#/$defs/list' }] } }
    const nested = (levels: number, value: unknown): unknown => (levels === 0 ? value : [nested(levels - 1, value)])
    const within = (levels: number) => wrong({ $ref: '#/$defs/list', $defs: { list } }, nested(levels, []))
    if (keyword !== 'oneOf') expect(within(5)).toBeNull()
    // Complete validation would practically never finish.
    expect(wrong({ $ref: '#/$defs/list', $defs: { list } }, nested(150, 1))).toMatch(/./)
    if (keyword === 'allOf') expect(within(150)).toBe('(root) takes too long to check')
  })

  it('has enough references for the longest answers of models', () => {
    const schema = { items: { $ref: '#/$defs/n' }, $defs: { n: { type: 'integer' } } }
    expect(wrong(schema, Array(150_000).fill(1))).toBeNull()
    expect(wrong(schema, [...Array(1000).fill(1), '1'])).toBe('/1000 must be integer')
  })

  it('compiles every definition once, however often it is referenced', () => {
    const large = { properties: Object.fromEntries(Array.from({ length: 400 }, (_, n) => [`p${n}`, { type: 'null' }])) }
    const properties = Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`q${n}`, { $ref: '#/$defs/large' }]))
    expect(wrong({ $defs: { large }, properties }, { q499: { p399: 1 } })).toBe('/q499/p399 must be null')
  })

  it('finds duplicates in long lists', () => {
    const items = Array.from({ length: 20_000 }, (_, n) => ({ n, text: 'a' }))
    expect(wrong({ uniqueItems: true }, items)).toBeNull()
    expect(wrong({ uniqueItems: true }, [...items, { text: 'a', n: 0 }])).toBe('(root) must not have duplicate items')
    expect(wrong({ uniqueItems: false }, [1, 1])).toBeNull()
    expect(wrong({ properties: { a: { uniqueItems: true } } }, { a: [1, '1', 1.5, [1], null, 1] })).toMatch(/^\/a /)
  })

  it('refuses a text that is too long for a URL', () => {
    expect(wrong({ format: 'url' }, 'https://example.com/a?b=c')).toBeNull()
    expect(wrong({ format: 'url' }, 'example')).not.toBeNull()
    // Ajv's regular expression takes quadratic time, here an hour.
    expect(wrong({ format: 'url' }, `http://[${':'.repeat(2_000_000)} `)).not.toBeNull()
  })

  // Compiling 200 schemas takes seconds on a busy machine.
  it('is cached in bounded number', { timeout: 60_000 }, () => {
    const first = compileSchema({ title: 'first' })
    for (let n = 0; n < 200; n++) compileSchema({ title: `filler ${n}` })
    expect(compileSchema({ title: 'first' })).not.toBe(first)
  })
})

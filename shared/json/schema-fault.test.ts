import { Ajv } from 'ajv'
import { type TSchema, Type } from 'typebox'
import { describe, expect, it } from 'vitest'
import { describeFault, faultSentence, type SchemaError } from './schema-fault.ts'

function sentence(schema: TSchema, value: unknown, what?: string): string {
  const validate = new Ajv({ strict: false, verbose: true }).compile(schema)
  expect(validate(value)).toBe(false)
  return faultSentence(describeFault(validate.errors as SchemaError[]), what)
}
const field = (schema: TSchema) => Type.Object({ a: schema }, { additionalProperties: false })

describe('a value that breaks a schema', () => {
  const text = Type.String()
  it.each<[string, TSchema, unknown, string]>([
    ['a missing field', field(text), {}, '`a` is missing; it must be a string'],
    ['a missing choice', field(Type.Enum(['x', 'y'])), {}, '`a` is missing; it must be one of "x", "y"'],
    ['an unknown field', field(text), { a: '', b: 1 }, 'Unknown field `b`; known here: a'],
    ['a wrong type', field(text), { a: 1 }, '`a` must be a string, not 1'],
    ['null', field(text), { a: null }, '`a` must be a string, not null'],
    ['a text for a number', field(Type.Integer()), { a: '5' }, '`a` must be an integer, not "5"'],
    ['a wrong choice', field(Type.Enum(['x', 'y'])), { a: 'z' }, '`a` must be one of "x", "y"'],
    ['a wrong constant', field(Type.Literal('24h')), { a: '48h' }, '`a` must be "24h"'],
    ['a number out of range', field(Type.Integer({ minimum: 1, maximum: 9 })), { a: 10 }, '`a` must be from 1 to 9'],
    ['a number too small', field(Type.Number({ exclusiveMinimum: 0 })), { a: 0 }, '`a` must be above 0'],
    ['an empty text', field(Type.String({ minLength: 1 })), { a: '' }, '`a` must not be empty'],
    [
      'a long text',
      field(Type.String({ minLength: 1, maxLength: 2 })),
      { a: 'abc' },
      '`a` must have 1 to 2 characters',
    ],
    ['an empty list', field(Type.Array(text, { minItems: 1 })), { a: [] }, '`a` must not be empty'],
    ['a long list', field(Type.Array(text, { maxItems: 1 })), { a: ['', ''] }, '`a` must have at most 1 item'],
    ['an item', field(Type.Array(field(text))), { a: [{ a: '' }, { a: 1 }] }, '`a[1].a` must be a string, not 1'],
    ['a blank text', field(Type.String({ pattern: '\\S' })), { a: ' ' }, '`a` must not be blank'],
    [
      'a pattern',
      field(Type.String({ pattern: '^b', examples: ['bc'] })),
      { a: 'c' },
      '`a` must match ^b, such as "bc"',
    ],
    ['a rule', field(Type.String({ pattern: '^b', 'x-rule': 'a b' })), { a: 'c' }, '`a` must be a b'],
    [
      'a union of types',
      field(Type.Union([text, Type.Array(text), Type.Null()])),
      { a: 1 },
      '`a` must be a string, an array of strings or null, not 1',
    ],
    [
      'the one branch of a union that takes the type',
      field(Type.Union([Type.Integer({ minimum: 1 }), Type.Null()])),
      { a: 0 },
      '`a` must be at least 1',
    ],
    [
      'several branches that take the type',
      field(Type.Union([Type.Array(text), Type.Array(Type.Integer()), Type.Array(Type.Array(Type.Integer()))])),
      { a: ['x', 1] },
      '`a` must be an array of strings, an array of integers or an array of arrays of integers',
    ],
    [
      'a name of a field',
      field(Type.Object({}, { propertyNames: { maxLength: 1 } })),
      { a: { bc: 1 } },
      '`a` has the name "bc", which must have at most 1 character',
    ],
    ['a field with a slash in its name', field(text), { a: '', 'b/c': 1 }, 'Unknown field `b/c`; known here: a'],
  ])('%s', (_, schema, value, expected) => expect(sentence(schema, value)).toBe(expected))

  it('in a query is called a query parameter', () => {
    expect(sentence(field(Type.String()), { a: 1 }, 'query parameter')).toBe(
      'Query parameter `a` must be a string, not 1',
    )
    expect(sentence(field(Type.String()), { a: '', b: 1 }, 'query parameter')).toBe(
      'Unknown query parameter `b`; known here: a',
    )
  })
})

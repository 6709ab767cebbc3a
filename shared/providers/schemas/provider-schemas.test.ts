import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { compileSchema, violation } from '#shared/json/schema.ts'
import { providerSchemas } from './provider-schemas.ts'

type Schema = Record<string, unknown>
const object = (properties: Schema, more: Schema = {}) => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
  ...more,
})
const text = { type: 'string' }

describe('a schema for Claude', () => {
  const closed = (schema: Schema) => providerSchemas(schema).closed

  it('matches structured outputs, with other rules in descriptions', () => {
    const schema = object(
      {
        a: { type: 'string', maxLength: 9, format: 'date' },
        b: { type: 'array', items: text, minItems: 1, maxItems: 3 },
      },
      { $schema: 'http://json-schema.org/draft-07/schema#', title: 'T', description: 'D' },
    )
    expect(closed(schema)).toEqual(
      object(
        {
          a: { type: 'string', format: 'date', description: '{maxLength: 9}' },
          b: { type: 'array', items: text, minItems: 1, description: '{maxItems: 3}' },
        },
        { title: 'T', description: 'D' },
      ),
    )
  })

  it('has its definitions in one place', () => {
    const A = object({ b: text })
    const schema = object({ a: { $ref: '#/definitions/A' } }, { definitions: { A, unused: {} } })
    expect(closed(schema)).toEqual(object({ a: { $ref: '#/$defs/A' } }, { $defs: { A } }))
    expect(closed({ $ref: '#/definitions/A', definitions: { A } })).toEqual(A)
  })

  it('has alternatives for a list of types', () => {
    const schema = object({
      a: { type: ['string', 'null'], maxLength: 3 },
      b: { enum: ['x', null] },
      c: { const: 1 },
      d: { allOf: [text], title: 'D' },
    })
    expect(closed(schema)).toEqual(
      object({
        a: { anyOf: [{ type: 'string', description: '{maxLength: 3}' }, { type: 'null' }] },
        b: { enum: ['x', null] },
        c: { const: 1 },
        d: { type: 'string', title: 'D' },
      }),
    )
  })

  it.each<[string, Schema]>([
    ['JSON mode', { type: 'object' }],
    ['an object that may have other keys', { type: 'object', properties: { a: text } }],
    ['an object that must not be closed', object({ a: text }, { additionalProperties: true })],
    ['keys of any name', object({ counts: { type: 'object', additionalProperties: { type: 'integer' } } })],
    [
      'keys by a pattern',
      object({ a: { type: 'object', patternProperties: { '^x': text }, additionalProperties: false } }),
    ],
    ['an open object in a list', object({ a: { type: 'array', items: { type: 'object' } } })],
    ['an open object in a definition', object({ a: { $ref: '#/$defs/A' } }, { $defs: { A: { type: 'object' } } })],
    ['an open object among alternatives', object({ a: { anyOf: [{ type: 'null' }, { type: 'object' }] } })],
    ['an open object that may be null', object({ a: { type: ['object', 'null'], properties: { b: text } } })],
    ['parts that belong together', object({ a: { allOf: [object({ b: text }), object({ c: text })] } })],
    ['a part beside properties', object({ a: text }, { allOf: [{ required: ['a'] }] })],
    ['alternatives beside properties', object({ a: text }, { anyOf: [{ required: ['a'] }] })],
    ['a value of any type', object({ a: {} })],
    ['a list of anything', object({ a: { type: 'array' } })],
    ['a tuple', object({ a: { type: 'array', prefixItems: [text, text], items: false } })],
    ['a reference to itself', object({ kid: { anyOf: [{ $ref: '#' }, { type: 'null' }] } })],
    [
      'a definition that holds itself',
      object(
        { a: { $ref: '#/$defs/A' } },
        { $defs: { A: object({ b: { type: 'array', items: { $ref: '#/$defs/A' } } }) } },
      ),
    ],
    ['a list', { type: 'array', items: text }],
    ['a text', text],
    ['alternatives', { anyOf: [object({ a: text }), object({ b: text })] }],
    [
      'more that is optional than there may be',
      { ...object(Object.fromEntries(Array.from({ length: 25 }, (_, n) => [`p${n}`, text]))), required: [] },
    ],
  ])('is left to the prompt if it contains %s', (_, schema) => {
    expect(closed(schema)).toBeNull()
    expect(providerSchemas(schema).portable).toMatchObject(
      schema.$ref ? {} : { ...(schema.type !== undefined && { type: schema.type }) },
    )
  })

  it('covers the schemas of all kinds', () => {
    for (const job of jobs.values()) {
      if (job.operation !== 'chat') continue
      const { schema } = job.prompts[job.promptVersion]!(job.example.input)
      if (schema) expect([job.kind, closed(schema)]).not.toEqual([job.kind, null])
    }
  })

  it('allows every value that the schema allows', () => {
    const schema = object(
      { a: { type: ['integer', 'null'], minimum: 3 }, b: { type: 'array', items: { $ref: '#/$defs/B' } } },
      { $defs: { B: object({ c: text }) } },
    )
    const validate = compileSchema(closed(schema)!)
    for (const value of [
      { a: 3, b: [] },
      { a: null, b: [{ c: '' }] },
    ]) {
      expect(violation(compileSchema(schema), value)).toBeNull()
      expect(violation(validate, value)).toBeNull()
    }
  })
})

describe('a schema for Gemini', () => {
  const google = (schema: Schema) => providerSchemas(schema).google

  it('has no references and no unsupported keywords', () => {
    const schema = object(
      {
        a: { $ref: '#/definitions/A', description: 'D' },
        b: { const: 'x' },
        c: { const: 1, type: 'integer' },
        d: { type: ['string', 'null'], format: 'uuid' },
      },
      {
        $schema: 'http://json-schema.org/draft-07/schema#',
        $id: 'x',
        definitions: { A: object({ n: { type: 'number', exclusiveMinimum: 0, maximum: 9 } }) },
      },
    )
    expect(google(schema)).toEqual(
      object({
        a: { ...object({ n: { type: 'number', maximum: 9, description: '{exclusiveMinimum: 0}' } }), description: 'D' },
        b: { type: 'string', enum: ['x'] },
        c: { type: 'integer', description: '{const: 1}' },
        d: { anyOf: [{ type: 'string', description: '{format: "uuid"}' }, { type: 'null' }] },
      }),
    )
  })

  it.each<[string, Schema]>([
    ['free keys', object({ a: { type: 'object', additionalProperties: text } })],
    ['a reference to itself', object({ kid: { anyOf: [{ $ref: '#' }, { type: 'null' }] } })],
    ['a list', { type: 'array', items: text }],
    [
      'what grows beyond measure',
      object(
        { a: { $ref: '#/$defs/A0' } },
        {
          $defs: Object.fromEntries(
            Array.from({ length: 20 }, (_, n) => [
              `A${n}`,
              n === 19 ? text : object({ a: { $ref: `#/$defs/A${n + 1}` }, b: { $ref: `#/$defs/A${n + 1}` } }),
            ]),
          ),
        },
      ),
    ],
  ])('is left to the prompt if it contains %s', (_, schema) => expect(google(schema)).toBeNull())
})

describe('a schema for Ollama', () => {
  it('is complete except for patterns', () => {
    const schema = object(
      { pattern: { type: 'string', pattern: '\\p{L}' }, a: { $ref: '#/definitions/A' } },
      { definitions: { A: { type: 'object' } } },
    )
    expect(providerSchemas(schema).grammar).toEqual(
      object({ pattern: text, a: { $ref: '#/$defs/A' } }, { $defs: { A: { type: 'object' } } }),
    )
    expect(providerSchemas(object({ kid: { $ref: '#' } })).grammar).toBeNull()
  })
})

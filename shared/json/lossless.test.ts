import fc from 'fast-check'
import { Type } from 'typebox'
import { describe, expect, it } from 'vitest'
import { cacheKey } from '#shared/cache/cache-key.ts'
import { cleanDeep, isTooDeep } from '#shared/text.ts'
import { filterOutput } from '#shared/text-rules/filter.ts'
import { canonicalJson } from './canonical.ts'
import { doublesWhereTyped, isRawNumber, parseJson, toDoubles } from './lossless.ts'
import { compileSchema, violation } from './schema.ts'

const again = (text: string) => JSON.stringify(parseJson(text))

describe('numbers', () => {
  it.each([
    '2512292042121000001',
    '-9223372036854775809',
    '9007199254740993',
    '0.1234567890123456789',
    '1.00000000000000000001',
    '1e400',
    '-1E-400',
    '-0',
    '-0.00',
    '123456789012345678901234567890',
  ])('%s is written as it was read, at any position', number => {
    for (const text of [number, `[${number}]`, `{"a":{"b":[0,${number}]}}`]) expect(again(text)).toBe(text)
    expect(again(`{ "a" :\n ${number} , "b":1}`)).toBe(`{"a":${number},"b":1}`)
  })

  it.each(['0', '1', '-1.5', '1.0', '1.50', '100e-2', '1E+2', '9007199254740992', '5e-324', '0.1', '0e999', '0.000'])(
    '%s is a plain number, which has the same value',
    number => expect(parseJson(number)).toBe(JSON.parse(number)),
  )

  it('strings that look like numbers stay strings', () => {
    const value = { a: '2512292042121000001', b: ':1e400', c: '[-0' }
    expect(parseJson(JSON.stringify(value))).toEqual(value)
  })

  it('every JSON value equals that of JSON.parse once its numbers are doubles', () => {
    const number = fc.oneof(
      fc.bigInt().map(String),
      fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
      fc.tuple(fc.bigInt({ min: 0n }), fc.nat()).map(([whole, part]) => `-${whole}.${part}e-${part % 400}`),
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.string(), number)), entries => {
        const text = `{${entries.map(([key, source]) => `${JSON.stringify(key)}:${source}`).join(',')}}`
        expect(JSON.stringify(toDoubles(parseJson(text)))).toBe(JSON.stringify(JSON.parse(text)))
        for (const [key, source] of new Map(entries)) {
          const parsed = (parseJson(text) as Record<string, unknown>)[key]
          expect(isRawNumber(parsed) ? parsed.rawJSON : Number(source)).toBe(isRawNumber(parsed) ? source : parsed)
        }
      }),
    )
  })

  it.each(['', '{', '{"a":12345678901234567890', '[1e400,]', '00000000000000000001'])('%j is a SyntaxError', text =>
    expect(() => parseJson(text)).toThrow(SyntaxError),
  )

  it('keeps a key named __proto__ as a key, and the last of two equal keys', () => {
    expect(again('{"__proto__":12345678901234567890}')).toBe('{"__proto__":12345678901234567890}')
    expect(again('{"a":1,"a":12345678901234567890}')).toBe('{"a":12345678901234567890}')
  })

  it('reads values that are nested too deeply for a reviver, so that callers can refuse them', () => {
    const text = `${'['.repeat(100_000)}12345678901234567890${']'.repeat(100_000)}`
    expect(isTooDeep(parseJson(text))).toBe(true)
  })
})

describe('with a schema', () => {
  const schema = Type.Object({
    count: Type.Integer(),
    metadata: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    either: Type.Optional(Type.Union([Type.String(), Type.Object({ free: Type.Unknown(), size: Type.Number() })])),
    list: Type.Optional(Type.Array(Type.Number())),
  })

  it('numbers are exact where the schema leaves the value open, else doubles', () => {
    const id = '2512292042121000001'
    const text = `{"count":${id},"metadata":{"a":${id},"b":[{"c":${id}}]},"either":{"free":${id},"size":${id}},"list":[${id}]}`
    const double = Number(id)
    expect(JSON.stringify(parseJson(text, schema))).toBe(
      text
        .replace(`"count":${id}`, `"count":${double}`)
        .replace(`"size":${id}`, `"size":${double}`)
        .replace(`[${id}]`, `[${double}]`),
    )
  })

  it('a number in place of an object stays a number', () => {
    expect(doublesWhereTyped(parseJson('{"metadata":12345678901234567890}'), schema)).toEqual({
      metadata: 12345678901234567000,
    })
  })
})

describe('functions that walk values', () => {
  const id = '2512292042121000001'
  const value = parseJson(`{"text":"a\\u0000","id":${id},"ids":[${id},{"b":1,"a":${id}}]}`)

  it('clean texts, filter texts and sort keys, and keep the numbers', () => {
    expect(JSON.stringify(cleanDeep(value))).toContain(`"id":${id},"ids":[${id},`)
    expect(canonicalJson(value)).toBe(`{"id":${id},"ids":[${id},{"a":${id},"b":1}],"text":"a\\u0000"}`)
    const card = parseJson('{"id":40128888888818810000,"mail":"4012 8888 8888 1881"}')
    expect(JSON.stringify(filterOutput(card).value)).toBe('{"id":40128888888818810000,"mail":"[card removed]"}')
    expect(isTooDeep(parseJson(`${'['.repeat(200)}${id}${']'.repeat(200)}`))).toBe(false)
  })

  it('two inputs that differ in the last digit of an id have different cache keys', () => {
    const keyOf = (number: string) =>
      cacheKey({
        kind: 'k',
        promptVersion: '1',
        routing: {},
        options: {},
        input: parseJson(`{"schema":{"maximum":${number}}}`),
        apiKeyId: 'a',
      })
    expect(keyOf(id)).not.toEqual(keyOf('2512292042121000002'))
    expect(keyOf(id)).toEqual(keyOf(id))
  })
})

describe('JSON Schemas', () => {
  const fault = (schema: string, value: string) =>
    violation(compileSchema(parseJson(schema) as Record<string, unknown>), parseJson(value))

  it('check exact numbers by type and bounds', () => {
    const schema = '{"type":"object","properties":{"id":{"type":"integer","maximum":9223372036854775807}}}'
    expect(fault(schema, '{"id":2512292042121000001}')).toBeNull()
    expect(fault(schema, '{"id":25122920421210000010}')).toContain('must be <= ')
    expect(fault('{"properties":{"id":{"type":"string"}}}', '{"id":2512292042121000001}')).toBe('/id must be string')
    expect(fault('{"type":"object"}', '2512292042121000001')).toContain('must be object')
  })

  it('distinguish items that differ only beyond the precision of a double', () => {
    const schema = '{"type":"array","uniqueItems":true}'
    expect(fault(schema, '[{"id":2512292042121000001},{"id":2512292042121000002}]')).toBeNull()
    expect(fault(schema, '[{"id":2512292042121000001},{"id":2512292042121000001}]')).toContain('duplicate')
  })

  it.each(['const', 'enum', 'multipleOf'])('are refused if %s cannot be compared exactly', keyword => {
    const number = '2512292042121000001'
    const schema = `{"properties":{"id":{"${keyword}":${keyword === 'enum' ? `[1,${number}]` : number}}}}`
    expect(() => fault(schema, '{}')).toThrow(`/properties/id/${keyword}`)
  })
})

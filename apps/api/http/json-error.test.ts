import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { invalidJson, locateJsonError } from './json-error.ts'

describe('the position of a JSON error', () => {
  it.each([
    ['', 0],
    ['{"a":', 5],
    ['{"a":1,}', 7],
    ['{"a" 1}', 5],
    ['{a:1}', 1],
    ['[1 2]', 3],
    ['[1,]', 3],
    ['{"a":1]', 6],
    ['{}{}', 2],
    ['01', 1],
    ['[tru]', 1],
    ['"abc', 4],
    ['["a\nb"]', 3],
    ['["\\x"]', 2],
    ["{'a':1}", 1],
    ['{"a":NaN}', 5],
  ])('of %j is %i', (text, offset) => expect(locateJsonError(text)?.offset).toBe(offset))

  it('has a line and a column, both from 1', () => {
    expect(locateJsonError('{\n  "a": 1,\n  "b": x\n}')).toEqual({ offset: 19, line: 3, column: 8 })
  })

  it('is found exactly in the texts that JSON.parse refuses', () => {
    const isJson = (text: string) => {
      try {
        JSON.parse(text)
        return true
      } catch {
        return false
      }
    }
    const damaged = fc
      .tuple(
        fc.json(),
        fc.nat(),
        fc.constantFrom('', '"', ',', ':', '}', ']', '{', '[', '\\', '0', '-', '.', 'e', 't', ' '),
      )
      .map(
        ([text, at, char]) => text.slice(0, at % (text.length + 1)) + char + text.slice((at % (text.length + 1)) + 1),
      )
    fc.assert(
      fc.property(fc.oneof(fc.json(), damaged), text => {
        expect(locateJsonError(text) === null).toBe(isJson(text))
      }),
      { numRuns: 3000 },
    )
  })

  it('is found in the largest bodies and at any depth', () => {
    const megabytes = 8 * 1024 * 1024
    expect(locateJsonError('['.repeat(megabytes))?.offset).toBe(megabytes)
    expect(locateJsonError(`["${'\\n'.repeat(megabytes / 2)}`)?.column).toBe(megabytes + 3)
    expect(locateJsonError(`${'1'.repeat(megabytes)}x`)?.offset).toBe(megabytes)
    expect(locateJsonError('\n'.repeat(megabytes))).toEqual({ offset: megabytes, line: megabytes + 1, column: 1 })
  })
})

it('the message names the character, or the end of the body', () => {
  expect(invalidJson('{"a":🙂}')).toMatchObject({
    code: 'invalid_json',
    message: 'The body is not valid JSON: unexpected "🙂" at line 1, column 6.',
    context: { field: '/', offset: 5, line: 1, column: 6 },
  })
  expect(invalidJson('[').message).toBe('The body is not valid JSON: unexpected end of the body at line 1, column 2.')
  expect(invalidJson('{"__proto__":{}}').message).toBe('The body has a key `__proto__` or `constructor.prototype`.')
})

import { expect, it } from 'vitest'
import { parseExactly } from './exact-json.ts'

it.each([
  '{"id":2512292042121000001}',
  '[-9223372036854775809,1,0.5]',
  '{"a":"2512292042121000001"}',
  '{"n":1234567890123456}',
])('%s is printed as it was read', text => expect(JSON.stringify(parseExactly(text))).toBe(text))

it('safe numbers stay numbers', () =>
  expect(parseExactly('{"total":3,"cost":0.1234567890123456,"id":2512292042121000001}')).toMatchObject({
    total: 3,
    cost: 0.1234567890123456,
  }))

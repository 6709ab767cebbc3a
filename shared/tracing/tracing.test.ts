import { describe, expect, test } from 'vitest'
import { parsePairs } from './settings.ts'
import { parseTraceparent, readTraceparent, traceIds } from './tracing.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const SPAN = 'b7ad6b7169203331'

describe('a traceparent', () => {
  test('is parsed as the specification requires, also of a later version', () => {
    expect(parseTraceparent(`00-${TRACE}-${SPAN}-01`)).toEqual({ traceId: TRACE, spanId: SPAN, flags: 1 })
    expect(readTraceparent(`cc-${TRACE}-${SPAN}-03-more`)).toBe(`00-${TRACE}-${SPAN}-01`)
    expect(readTraceparent(`00-${TRACE}-${SPAN}-02`)).toBe(`00-${TRACE}-${SPAN}-00`)
    expect(traceIds(`00-${TRACE}-${SPAN}-01`)).toEqual({ trace_id: TRACE, span_id: SPAN })
  })

  test.each([
    undefined,
    '',
    'hello',
    [`00-${TRACE}-${SPAN}-01`],
    `00-${TRACE}-${SPAN}-01-more`,
    `00-${TRACE.toUpperCase()}-${SPAN}-01`,
    `ff-${TRACE}-${SPAN}-01`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${TRACE}-${'0'.repeat(16)}-01`,
    `01-${TRACE}-${SPAN}-01-${'x'.repeat(8192)}`,
  ])('that is invalid is ignored: %s', text => {
    expect(readTraceparent(text)).toBeNull()
    expect(traceIds(text)).toEqual({})
  })
})

describe('pairs', () => {
  test('are percent-encoded, and a value may have more equals signs', () => {
    expect(parsePairs('Authorization=Basic%20cGs6c2s=, x-tenant=me%2Cyou,,')).toEqual({
      Authorization: 'Basic cGs6c2s=',
      'x-tenant': 'me,you',
    })
    expect(parsePairs('')).toEqual({})
  })

  test.each(['planted', '=planted', 'a b=planted', 'a=planted%', 'a=planted%0A', 'a=b,planted'])(
    'that are none are refused without being quoted: %s',
    text => {
      expect(() => parsePairs(text)).toThrow(
        /^(pair [12] is not NAME=VALUE|the value of a is not percent-encoded text)$/,
      )
    },
  )
})

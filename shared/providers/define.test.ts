import { describe, expect, it } from 'vitest'
import { CallFailure, kindOfStatus, retryAfter } from './define.ts'

const NOW = Date.parse('2026-01-01T12:00:00Z')
const read = (headers: Record<string, string>) => retryAfter(new Headers(headers), NOW)

describe('retryAfter', () => {
  it.each([
    ['seconds', { 'retry-after': '2' }, 2000],
    ['parts of a second', { 'retry-after': '0.25' }, 250],
    ['an HTTP date', { 'retry-after': 'Thu, 01 Jan 2026 12:00:30 GMT' }, 30_000],
    ['a past date as no wait', { 'retry-after': 'Thu, 01 Jan 2026 11:00:00 GMT' }, 0],
    ['milliseconds, before seconds', { 'retry-after-ms': '150', 'retry-after': '9' }, 150],
    ['seconds beside milliseconds that are not a number', { 'retry-after-ms': 'soon', 'retry-after': '9' }, 9000],
    ['a negative number as no wait', { 'retry-after': '-5' }, 0],
    ['an hour', { 'retry-after': '3600' }, 3_600_000],
    ['days as an hour', { 'retry-after': '172800' }, 3_600_000],
    ['centuries as an hour', { 'retry-after-ms': '1e300' }, 3_600_000],
    ['a date far away as an hour', { 'retry-after': 'Fri, 01 Jan 2999 12:00:00 GMT' }, 3_600_000],
  ])('reads %s', (_, headers, expected) => expect(read(headers)).toBe(expected))

  it.each(['', 'soon', 'soon 5', 'Infinity', 'NaN'])('returns null for %j', value =>
    expect(read({ 'retry-after': value })).toBeNull(),
  )

  it('returns null without the header or without headers', () => {
    expect(read({})).toBeNull()
    expect(retryAfter(undefined)).toBeNull()
  })
})

describe('kindOfStatus', () => {
  it.each([
    [429, 'rate_limited'],
    [503, 'overloaded'],
    [529, 'overloaded'],
    [408, 'timeout'],
    [504, 'timeout'],
    [401, 'auth'],
    [403, 'auth'],
    [402, 'no_balance'],
    [404, 'unknown_model'],
    [405, 'unknown_model'],
    [410, 'unknown_model'],
    [409, 'server_error'],
    [500, 'server_error'],
    [502, 'server_error'],
    [599, 'server_error'],
    [400, 'invalid_request'],
    [413, 'invalid_request'],
    [422, 'invalid_request'],
    [302, 'bad_response'],
  ])('%i is %s', (status, kind) => expect(kindOfStatus(status)).toBe(kind))
})

describe('CallFailure', () => {
  it('has a message that Postgres can store', () => {
    const { message } = new CallFailure('server_error', `a\0b\ud800${'x'.repeat(1000)}`)
    expect(message).not.toContain('\0')
    expect(message.isWellFormed()).toBe(true)
    expect(message.length).toBeLessThanOrEqual(500)
  })

  it('has the scope of the task only for an invalid request, and of the provider for errors that the operator must fix', () => {
    const scopes = (['invalid_request', 'auth', 'no_balance', 'unknown_model', 'timeout', 'overloaded'] as const).map(
      kind => new CallFailure(kind, '').scope,
    )
    expect(scopes).toEqual(['task', 'provider', 'provider', 'provider', 'none', 'none'])
  })
})

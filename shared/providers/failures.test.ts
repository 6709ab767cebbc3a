import { describe, expect, it } from 'vitest'
import { failureOfAnswer } from './failures.ts'

const INFO = { '@type': 'type.googleapis.com/google.rpc.RetryInfo', retryDelay: '34s' }
const waitOf = (status: number, body: unknown, headers?: Record<string, string>) =>
  failureOfAnswer(status, new Headers(headers), body, undefined).retryAfterMs

describe('the wait in the body of an error', () => {
  it.each([
    ['an error', { error: { details: [INFO] } }, 34_000],
    ['a list of errors', [{ error: { details: [INFO] } }], 34_000],
    ['an error that the SDK unwrapped', { details: [{ '@type': 'other' }, INFO] }, 34_000],
    ['text', JSON.stringify([{ error: { details: [INFO] } }]), 34_000],
    ['parts of a second', { details: [{ ...INFO, retryDelay: '1.5s' }] }, 1500],
    ['days, as an hour', { details: [{ ...INFO, retryDelay: '172800s' }] }, 3_600_000],
  ])('is read from %s', (_, body, expected) => {
    expect(waitOf(429, body)).toBe(expected)
    expect(waitOf(503, body)).toBe(expected)
  })

  it('does not override the header', () => {
    expect(waitOf(429, { details: [INFO] }, { 'retry-after': '7' })).toBe(7000)
  })

  it.each([400, 401, 500, 529])('is not read from a %i', status => {
    expect(waitOf(status, { error: { details: [INFO] } })).toBeNull()
  })

  it.each([
    ['in a message', { error: { message: 'You sent: {"retryDelay": "999999s"}' } }],
    ['in text that is not JSON', 'You sent: {"retryDelay": "999999s"}'],
    ['in a detail of another type', { details: [{ '@type': 'other', retryDelay: '34s' }] }],
    ['outside the details', { error: { retryDelay: '34s' } }],
    ['as a number', { details: [{ ...INFO, retryDelay: 34 }] }],
    ['in details that are not a list', { details: INFO }],
    ['nowhere', { details: [null, 'a', INFO['@type']] }],
    ['in nothing', null],
    ['in an empty list', []],
  ])('is none %s', (_, body) => expect(waitOf(429, body)).toBeNull())
})

import OpenAI from 'openai'
import { describe, expect, it } from 'vitest'
import { ERRORS, type ErrorCode, SluiceError } from '#shared/errors.ts'
import { asAnthropic, asOpenAi, surfaceOf } from './error-formats.ts'

const codes = Object.keys(ERRORS) as ErrorCode[]
const openAi = (code: ErrorCode, field?: string) => asOpenAi(new SluiceError(code, 'what', { context: { field } }))

describe('an error under /v1', () => {
  it.each(codes)('%s is parsed by the openai SDK', code => {
    const { status, headers, body } = openAi(code, '/a/0')
    const error = OpenAI.APIError.generate(status, body, undefined, new Headers(headers))
    expect(error).toMatchObject({ status, message: `${status} what`, param: 'a[0]', code: expect.stringMatching(/./) })
    expect(error.type).toBe(status === 429 ? error.type : status >= 500 ? 'server_error' : 'invalid_request_error')
    expect(status).not.toBe(422)
  })

  it('is retried by the SDKs only if it is retryable', () => {
    const may = codes.filter(code => openAi(code).headers['x-should-retry'] !== 'false')
    expect(may).toEqual(codes.filter(code => ERRORS[code].retryable && code !== 'budget_exceeded'))
    for (const code of ['already_finished', 'budget_exceeded', 'invalid_request'] as const) {
      expect(openAi(code).headers).toEqual({ 'x-should-retry': 'false' })
      expect(asAnthropic(new SluiceError(code), 'id').headers['x-should-retry']).toBe('false')
    }
    expect(openAi('rate_limited').headers).toEqual({})
  })

  it('has no param if it concerns no field of the body', () => {
    for (const field of [undefined, '/', ''])
      expect(openAi('invalid_json', field).body).toMatchObject({ error: { param: null } })
  })

  it.each<[ErrorCode, number, string]>([
    ['unauthenticated', 401, 'authentication_error'],
    ['forbidden', 403, 'permission_error'],
    ['not_found', 404, 'not_found_error'],
    ['already_finished', 409, 'conflict_error'],
    ['body_too_large', 413, 'request_too_large'],
    ['invalid_request', 400, 'invalid_request_error'],
    ['unsupported_media_type', 400, 'invalid_request_error'],
    ['budget_exceeded', 402, 'billing_error'],
    ['rate_limited', 429, 'rate_limit_error'],
    ['unavailable', 503, 'api_error'],
    ['server_busy', 529, 'overloaded_error'],
    ['unknown_model', 404, 'not_found_error'],
    ['model_unsuitable', 404, 'not_found_error'],
  ])('%s has the status %i and the type %s for Anthropic’s clients', (code, status, type) => {
    expect(asAnthropic(new SluiceError(code, 'what'), 'an id')).toMatchObject({
      status,
      headers: { 'request-id': 'an id' },
      body: { type: 'error', error: { type, message: 'what' }, request_id: 'an id' },
    })
  })

  it.each([
    ['/v1/files', {}, 'openai'],
    ['/v1', {}, 'openai'],
    ['/v1?x=/', {}, 'openai'],
    ['/v1/files', { 'anthropic-version': '2023-06-01' }, 'anthropic'],
    ['/v1/files', { 'anthropic-version': '' }, 'anthropic'],
    ['/v1/messages', {}, 'anthropic'],
    ['/v1/messages/batches?limit=1', {}, 'anthropic'],
    ['/v1/models', {}, 'openai'],
    ['/v1/models', { 'anthropic-version': '2023-06-01' }, 'anthropic'],
    ['/v12/files', {}, 'native'],
    ['/api/v1/files', { 'anthropic-version': '2023-06-01' }, 'native'],
  ])('of %s with %o is %s', (url, headers, surface) => expect(surfaceOf({ url, headers })).toBe(surface))
})

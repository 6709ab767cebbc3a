import { describe, expect, it } from 'vitest'
import { goDuration, rateHeaders } from './rate-headers.ts'

describe('the headers of a rate limit', () => {
  const state = { limit: 60, left: 59, resetMs: 90_000 }

  it('have the names of OpenAI', () => {
    expect(rateHeaders('openai', 'requests', state)).toEqual({
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': '1m30s',
    })
  })

  it('have the names of Anthropic, and a time without fractions', () => {
    expect(rateHeaders('anthropic', 'requests', state)).toEqual({
      'anthropic-ratelimit-requests-limit': '60',
      'anthropic-ratelimit-requests-remaining': '59',
      'anthropic-ratelimit-requests-reset': expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    })
  })

  it('are absent in the native API', () => expect(rateHeaders('native', 'requests', state)).toEqual({}))

  it.each([
    [0, '0ms'],
    [12, '12ms'],
    [1500, '1.5s'],
    [60_000, '1m0s'],
    [119_990, '1m59.99s'],
  ])('%i ms is %s', (ms, text) => expect(goDuration(ms)).toBe(text))
})

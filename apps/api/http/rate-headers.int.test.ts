import { describe, expect, it } from 'vitest'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()
const LIMIT = { requests_per_minute: 60 }
const body = { model: 'claude-haiku-5-5', messages: [{ role: 'user', content: 'Say hello' }] }

describe('the headers of the compatible APIs', () => {
  it.each([false, true])('name the request, the task and the limit of the key (stream: %s)', async stream => {
    const { secret: key } = await stack.makeKey(LIMIT)
    const { status, headers } = await stack.call('POST', '/v1/chat/completions', { key, body: { ...body, stream } })
    expect(status).toBe(200)
    expect(Object.fromEntries(headers)).toMatchObject({
      'x-request-id': expect.stringMatching(/./),
      'x-sluice-task-id': expect.stringMatching(/^task_/),
      'openai-version': '2020-10-01',
      'openai-processing-ms': expect.stringMatching(/^\d+$/),
      'x-ratelimit-limit-requests': '60',
      'x-ratelimit-remaining-requests': '59',
      'x-ratelimit-reset-requests': expect.stringMatching(/^1m[\d.]+s$/),
    })
  })

  it('are in a refusal, too', async () => {
    const { secret: key } = await stack.makeKey({ requests_per_minute: 1 })
    const ask = () => stack.call('POST', '/v1/chat/completions', { key, body })
    await ask()
    const { status, headers } = await ask()
    expect(status).toBe(429)
    expect(headers.get('x-ratelimit-remaining-requests')).toBe('0')
    expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
  })

  it('have Anthropic’s names for its clients', async () => {
    const { secret: key } = await stack.makeKey(LIMIT)
    const headers = { 'anthropic-version': '2023-06-01' }
    const answer = await stack.call('GET', '/v1/models', { key, headers })
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'request-id': answer.headers.get('x-request-id'),
      'anthropic-ratelimit-requests-limit': '60',
      'anthropic-ratelimit-requests-remaining': '59',
    })
    expect(answer.headers.has('openai-version')).toBe(false)
  })
})

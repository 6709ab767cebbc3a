import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { addToParts, type StreamEvent } from '#shared/requests/answer.ts'
import type { AssistantPart } from '#shared/requests/request.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { CallFailure, type CallRequest, type Provider } from './define.ts'
import { createProviders } from './index.ts'

const TOOLS = [{ name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } }]
const ASK: CallRequest = {
  model: 'qwen3',
  messages: [{ role: 'user', content: 'Weather in Rome?' }],
  tools: TOOLS,
  maxTokens: 100,
}

describe('Ollama', () => {
  let upstream: Upstream
  let provider: Provider
  beforeAll(async () => {
    upstream = await startUpstream()
    const config = { name: 'ollama', adapter: 'ollama', apiKey: null, model: null, explicit: true } as const
    provider = createProviders([{ ...config, baseUrl: upstream.url }]).get('ollama')!
  })
  beforeEach(() => upstream.reset())
  afterAll(() => upstream.close())
  const call = (onEvent?: (event: StreamEvent) => void) =>
    provider.call(ASK, { signal: new AbortController().signal, timeoutMs: 20_000, ...(onEvent && { onEvent }) })

  it('answers with reasoning, text and calls with ids of their own; the stream adds up to the answer', async () => {
    upstream.script({
      thinking: 'Look it up.',
      text: 'One moment.',
      toolCalls: [
        { name: 'weather', arguments: { city: 'Rome' } },
        { name: 'weather', arguments: {} },
      ],
    })
    const streamed: AssistantPart[] = []
    const answer = await call(event => {
      if (event.type !== 'original') addToParts(streamed, event)
    })
    expect(answer).toMatchObject({
      finishReason: 'tool_calls',
      parts: [
        { type: 'thinking', text: 'Look it up.' },
        { type: 'text', text: 'One moment.' },
        { type: 'tool_call', id: expect.stringMatching(/^call_\w+$/), name: 'weather', arguments: '{"city":"Rome"}' },
        { type: 'tool_call', name: 'weather', arguments: '{}' },
      ],
    })
    expect(streamed).toEqual(answer.parts)
    const ids = answer.parts.flatMap(one => (one.type === 'tool_call' ? [one.id] : []))
    expect(new Set(ids).size).toBe(2)
    expect(upstream.calls[0]!.body).toMatchObject({ tools: [{ type: 'function', function: TOOLS[0] }] })
  })

  it('leaves the request to other models if this one calls no tools', async () => {
    upstream.script({ status: 400, message: 'registry.ollama.ai/library/qwen3 does not support tools' })
    const failure = await call().catch((error: unknown) => error)
    expect(failure).toBeInstanceOf(CallFailure)
    expect(failure).toMatchObject({ kind: 'unsupported', scope: 'provider' })
  })
})

import { describe, expect, it } from 'vitest'
import { wholeRequest } from '#shared/requests/stored.ts'
import { isFault } from '#shared/requests/wire.ts'
import { wireFormat } from '#shared/requests/wires.ts'
import type { AvailableProvider } from '#shared/routing.ts'
import { type AllowedLosses, adaptTo, lostAt, suitableTargets } from './suitable-targets.ts'

const OPENAI = { provider: 'openai', model: 'gpt-5.4-mini' }
const OLLAMA = { provider: 'ollama', model: 'qwen3' }
const DEEPSEEK = { provider: 'deepseek', model: 'deepseek-chat' }
const AVAILABLE: AvailableProvider[] = [OPENAI, OLLAMA, DEEPSEEK].map(({ provider, model }) => ({
  name: provider,
  defaultModel: model,
  ...(provider === 'ollama' && { listed: [model] }),
}))
const IMAGE = {
  role: 'user',
  content: [
    { type: 'text', text: 'What is this?' },
    { type: 'image_url', image_url: { url: 'https://a.example/b.png' } },
  ],
}
const tool = { type: 'function', function: { name: 'f' } }

function chat(body: object) {
  const parsed = wireFormat('openai-chat').parse({ messages: [{ role: 'user', content: 'Hi' }], ...body })
  if (isFault(parsed)) throw new Error(parsed.message)
  return wholeRequest(parsed)
}
const suit = (body: object, targets = [OPENAI, OLLAMA, DEEPSEEK], allowed?: AllowedLosses, available = AVAILABLE) =>
  suitableTargets(chat(body), targets, available, allowed)

describe('the targets of a request', () => {
  it('are all, if it says nothing that one of them does not know', () => {
    expect(suit({ tools: [tool], stop: 'END', temperature: 1, user: 'me' })).toEqual({
      targets: [OPENAI, OLLAMA, DEEPSEEK],
    })
  })

  it.each<[string, object]>([
    ['tool_choice', { tools: [tool], tool_choice: 'required' }],
    ['verbosity', { verbosity: 'low' }],
    ['n', { n: 2 }],
    ['logprobs', { logprobs: true }],
    ['messages[0].name', { messages: [{ role: 'user', content: 'Hi', name: 'Ann' }] }],
  ])('are those that honour %s', (param, body) => {
    expect(suit(body)).toEqual({ targets: [OPENAI, DEEPSEEK] })
    const { refusal } = suit(body, [OLLAMA]) as { refusal: { param: string; message: string } }
    expect(refusal.param).toBe(param)
    expect(refusal.message).toContain('openai/gpt-5.4-mini')
    expect(refusal.message).not.toMatch(/support it:.*qwen3/)
  })

  it('exclude models that read no images, by the catalogue and by what the operator declares', () => {
    expect(suit({ messages: [IMAGE] })).toEqual({ targets: [OPENAI, OLLAMA] })
    const declared = AVAILABLE.map(one =>
      one.name === 'ollama' ? { ...one, capabilities: { 'qwen*': { images: false } } } : one,
    )
    expect(suit({ messages: [IMAGE] }, [OLLAMA], true, declared)).toEqual({
      refusal: {
        name: 'image',
        param: 'messages[0].content[1]',
        message: expect.stringMatching(
          /^'messages\[0\]\.content\[1\]' is not supported: ollama\/qwen3 reads no images\. Models that support it: openai\/gpt-5\.4-mini/,
        ),
      },
    })
  })

  it('may lose what the client permits, but only if none loses nothing', () => {
    const body = { tools: [tool], tool_choice: 'required', verbosity: 'low' }
    expect(suit(body, [OLLAMA], true)).toEqual({ targets: [OLLAMA] })
    expect(suit(body, [OLLAMA], ['tool_choice', 'verbosity'])).toEqual({ targets: [OLLAMA] })
    expect(suit(body, [OLLAMA], ['tool_choice'])).toMatchObject({ refusal: { param: 'verbosity' } })
    expect(suit(body, [OLLAMA, OPENAI], true)).toEqual({ targets: [OPENAI] })
    expect(lostAt(chat(body), OLLAMA, AVAILABLE)).toEqual(['tool_choice', 'verbosity'])
    expect(lostAt(chat(body), OPENAI, AVAILABLE)).toEqual([])
  })

  it('lose hints freely if the request has no format of its own', () => {
    const request = { messages: [{ role: 'user' as const, content: 'Hi' }], sampling: { temperature: 1 } }
    expect(suitableTargets(request, [OPENAI], AVAILABLE, undefined)).toEqual({ targets: [OPENAI] })
    const forced = { ...request, tools: [{ name: 'f' }], toolChoice: 'required' as const }
    expect(suitableTargets(forced, [OLLAMA], AVAILABLE, undefined)).toMatchObject({ refusal: { param: 'tool_choice' } })
  })
})

it('a model that does not reason gets no effort', () => {
  const available = AVAILABLE.map(one => ({ ...one, capabilities: { [one.defaultModel!]: { thinking: false } } }))
  const request = chat({ reasoning_effort: 'high' })
  expect(adaptTo(OLLAMA, request, available)).not.toHaveProperty('effort')
  // The provider gets the client's own request.
  expect(adaptTo(OPENAI, request, available)).toBe(request)
  expect(suitableTargets(request, [OLLAMA], available, undefined)).toMatchObject({
    refusal: { param: 'reasoning_effort' },
  })
  expect(suitableTargets(request, [OLLAMA], available, ['reasoning_effort'])).toEqual({ targets: [OLLAMA] })
})

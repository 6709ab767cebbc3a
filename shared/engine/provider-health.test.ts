import { expect, test } from 'vitest'
import { CallFailure, type CallFailureKind } from '#shared/providers/define.ts'
import { createProviderHealth } from './provider-health.ts'

const failed = (kind: CallFailureKind) => ({
  kind: 'failure' as const,
  hurried: false,
  failure: new CallFailure(kind, kind),
})
const answered = {
  kind: 'answer' as const,
  answer: {
    parts: [{ type: 'text' as const, text: '' }],
    finishReason: 'stop' as const,
    usage: null,
    limits: null,
    model: 'm',
  },
}

function harness() {
  let time = 0
  const health = createProviderHealth({
    configured: () => ['anthropic', 'ollama'],
    available: async () => [{ name: 'anthropic', defaultModel: 'm' }],
    now: () => time,
  })
  return { health, pass: (ms: number) => (time += ms) }
}

test('a provider is failing from its third failure in a row until it answers', async () => {
  const { health } = harness()
  const state = async () => (await health.states()).anthropic
  for (const kind of ['server_error', 'timeout'] as const) health.record('anthropic', failed(kind))
  expect(await state()).toBe('ok')
  health.record('anthropic', failed('connection'))
  expect(await state()).toBe('failing')
  health.record('anthropic', answered)
  expect(await state()).toBe('ok')
})

test('a configured server that lists no models is unreachable', async () => {
  const health = createProviderHealth({
    configured: () => ['ollama'],
    available: async () => [{ name: 'ollama', defaultModel: null, listed: null }],
  })
  expect((await health.states()).ollama).toBe('unreachable')
})

test('failures caused by the request or the worker do not count', async () => {
  const { health } = harness()
  for (let call = 0; call < 5; call++) {
    for (const kind of ['aborted', 'invalid_request', 'unknown_model'] as const)
      health.record('anthropic', failed(kind))
  }
  expect((await health.states()).anthropic).toBe('ok')
})

test('a failing provider is ok again after a minute without calls', async () => {
  const { health, pass } = harness()
  for (let call = 0; call < 3; call++) health.record('anthropic', failed('overloaded'))
  pass(59_000)
  expect((await health.states()).anthropic).toBe('failing')
  pass(2000)
  expect((await health.states()).anthropic).toBe('ok')
})

test('a configured provider that is not available is unreachable', async () => {
  expect((await harness().health.states()).ollama).toBe('unreachable')
})

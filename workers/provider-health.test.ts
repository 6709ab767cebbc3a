import { expect, test } from 'vitest'
import { createProviderHealth } from './provider-health.ts'
import { CallFailure, type CallFailureKind } from './providers/define.ts'

const failed = (kind: CallFailureKind) => ({
  kind: 'failure' as const,
  hurried: false,
  failure: new CallFailure(kind, kind),
})
const answered = {
  kind: 'answer' as const,
  answer: { text: '', stop: 'end' as const, usage: null, limits: null, model: 'm' },
}

function harness() {
  let time = 0
  const health = createProviderHealth({
    configured: ['anthropic', 'ollama'],
    available: async () => [{ name: 'anthropic', defaultModel: 'm' }],
    now: () => time,
  })
  return { health, pass: (ms: number) => (time += ms) }
}

test('a provider is failing from its third failure in a row until it answers', async () => {
  const { health } = harness()
  const state = async () => (await health.states()).anthropic
  for (const kind of ['server_error', 'timeout'] as const) health.note('anthropic', failed(kind))
  expect(await state()).toBe('ok')
  health.note('anthropic', failed('connection'))
  expect(await state()).toBe('failing')
  health.note('anthropic', answered)
  expect(await state()).toBe('ok')
})

test('what the request or the worker brought about does not count', async () => {
  const { health } = harness()
  for (let call = 0; call < 5; call++) {
    for (const kind of ['aborted', 'invalid_request', 'unknown_model'] as const) health.note('anthropic', failed(kind))
  }
  expect((await health.states()).anthropic).toBe('ok')
})

test('a failing provider that is not asked for a minute is given the benefit of the doubt', async () => {
  const { health, pass } = harness()
  for (let call = 0; call < 3; call++) health.note('anthropic', failed('overloaded'))
  pass(59_000)
  expect((await health.states()).anthropic).toBe('failing')
  pass(2000)
  expect((await health.states()).anthropic).toBe('ok')
})

test('a configured provider that is not there is unreachable', async () => {
  expect((await harness().health.states()).ollama).toBe('unreachable')
})

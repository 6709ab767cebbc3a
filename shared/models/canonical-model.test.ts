import { describe, expect, it } from 'vitest'
import { canonicalModel } from './canonical-model.ts'
import { BUILT_IN_PRICES } from './price-list.ts'

describe('the name of a model', () => {
  it.each([
    ['anthropic', 'claude-sonnet-5-5-20261001', 'claude-sonnet-5-5'],
    ['anthropic', 'claude-sonnet-5-5', 'claude-sonnet-5-5'],
    ['anthropic', 'Claude-Sonnet-5-5', 'claude-sonnet-5-5'],
    ['openai', 'gpt-5.4-mini-2026-03-17', 'gpt-5.4-mini'],
    ['google', 'gemini-2.5-pro-made-up', 'gemini-2.5-pro'],
    ['ollama', 'llama3:latest', 'llama3'],
    ['ollama', 'llama3:70b', 'llama3:70b'],
    ['ollama', ':latest', ':latest'],
    ['openai', 'my-model', 'my-model'],
    ['openai', 'my-model:latest', 'my-model:latest'],
    ['nobody', 'claude-sonnet-5-5-20261001', 'claude-sonnet-5-5-20261001'],
  ])('of %s, %s, is %s', (provider, model, canonical) => {
    expect(canonicalModel(provider, model)).toBe(canonical)
  })

  it('maps canonical names and names without a price to themselves', () => {
    for (const { provider, model } of BUILT_IN_PRICES) {
      const once = canonicalModel(provider, model)
      expect(canonicalModel(provider, once)).toBe(once)
      for (const all of ['', '*']) expect(canonicalModel(provider, all)).toBe(all)
    }
  })

  it('does not fill the memory with invented names', () => {
    for (let n = 0; n < 2000; n++) canonicalModel('openai', `made-up-${n}`)
    expect(canonicalModel('openai', 'gpt-4o-2024-08-06')).toBe('gpt-4o')
  })
})

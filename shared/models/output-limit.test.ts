import { describe, expect, it } from 'vitest'
import { defaultOutputLimit } from './output-limit.ts'

describe('the output limit of a model', () => {
  const limit = (provider: string, model: string, inputTokens = 500, least = 2048) =>
    defaultOutputLimit(provider, model, { inputTokens, least })

  it.each([
    ['anthropic', 'claude-haiku-5-5', 128_000],
    ['anthropic', 'claude-opus-5-5-20260901', 128_000],
    ['anthropic', 'claude-haiku-4-5', 64_000],
    ['anthropic', 'claude-3-haiku-20240307', 4096],
    ['openai', 'gpt-5.4-mini', 128_000],
    ['openai', 'gpt-4o-mini', 16_384],
    ['openai', 'o3-mini', 100_000],
    ['google', 'gemini-2.5-flash', 65_536],
    ['google', 'gemini-3.8-flash', 65_536],
    ['deepseek', 'deepseek-chat', 8192],
  ])('is the documented limit: %s/%s %i', (provider, model, tokens) => expect(limit(provider, model)).toBe(tokens))

  it('is small if it is unknown', () => {
    expect(limit('ollama', 'llama3.2')).toBe(8192)
    expect(limit('openai', 'Qwen/Qwen3-8B')).toBe(8192)
  })

  it('leaves room for the upper bound of the prompt, but is never below the minimum', () => {
    expect(limit('openai', 'gpt-5.4-mini', 300_000)).toBe(100_000)
    expect(limit('openai', 'gpt-4', 1000)).toBe(7192)
    expect(limit('openai', 'gpt-4', 8000)).toBe(2048)
  })
})

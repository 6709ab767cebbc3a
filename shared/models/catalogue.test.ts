import { describe, expect, it } from 'vitest'
import { isCatalogued, pricedNames } from './catalogue.ts'
import { listedAs } from './listed-name.ts'
import { PROVIDERS } from './providers.ts'
import { closestNames, noModelMessage, notConfiguredMessage, unknownModel, unpricedModel } from './unknown-model.ts'

describe('the catalogue', () => {
  it.each([
    ['anthropic', 'claude-haiku-5-5'],
    ['anthropic', 'claude-haiku-5-5-20261001'],
    ['anthropic', 'claude-3.5-sonnet'],
    ['anthropic', 'claude-3-5-sonnet-20241022'],
    ['anthropic', 'claude-3-5-haiku-latest'],
    ['openai', 'gpt-5.4'],
    ['openai', 'gpt-5.4-2026-03-05'],
    ['openai', 'o3-mini'],
    ['openai', 'text-embedding-ada-002'],
    ['openai', 'ft:gpt-4o-mini-2024-07-18:org:name:id'],
    ['google', 'gemini-2.5-pro'],
    ['google', 'gemini-2.5-flash-preview-09-2025'],
    ['google', 'gemini-1.5-pro-002'],
    ['deepseek', 'deepseek-chat'],
  ])('of %s has %s', (provider, model) => expect(isCatalogued(provider, model)).toBe(true))

  it.each([
    ['openai', 'gpt-oss-20b'],
    ['openai', 'gpt-oss:20b'],
    ['deepseek', 'deepseek-r1'],
    ['google', 'gemma-3'],
    ['deepseek', 'deepseek-r1:8b'],
    ['deepseek', 'deepseek-chat-uncensored'],
    ['deepseek', 'deepseek-r1-distill-qwen-7b'],
    ['openai', 'gpt-4o-local'],
    ['openai', 'gpt-5-nano-private'],
    ['openai', 'ft:gpt-4o-mini-2024-local'],
    ['openai', 'gpt-4.5-preview:7b'],
    ['anthropic', 'claude-haiku-5-5-distill:8b'],
    ['anthropic', 'claude-3-opus-of-mine'],
    ['google', 'gemini-2.5-pro-merged'],
    ['google', 'my-gemini-1.5-flash'],
    ['google', 'gemini-2.0-flash-thinking:8b'],
    ['ollama', 'anything'],
  ])('of %s lacks %s, which only shares a prefix or is an open-weights model', (provider, model) =>
    expect(isCatalogued(provider, model)).toBe(false),
  )

  it('contains the default models of the providers', () => {
    for (const { name, defaultModel, cheapModel, strongModel } of PROVIDERS)
      for (const model of [defaultModel, cheapModel, strongModel])
        if (model) expect(isCatalogued(name, model), model).toBe(true)
  })

  it('is extended by names and patterns in PRICES, but not by a bare *', () => {
    const prices = [{ input: '0', output: '0' }]
    const overrides = ['my-model', 'Qwen/*', '*'].map(model => ({ provider: 'openai' as const, model, prices }))
    expect(pricedNames(overrides, 'openai')).toEqual(['my-model', 'Qwen/*'])
    expect(pricedNames(overrides, 'google')).toEqual([])
  })
})

describe('a listed name', () => {
  const LISTED = ['llama3.2:latest', 'gpt-oss:20b', 'hf.co/User/Model-GGUF:Q4_K_M', 'me/mine:latest']
  it.each([
    ['gpt-oss:20b', 'gpt-oss:20b'],
    ['llama3.2', 'llama3.2'],
    ['llama3.2:latest', 'llama3.2:latest'],
    ['GPT-OSS:20B', 'gpt-oss:20b'],
    ['Llama3.2', 'llama3.2:latest'],
    ['library/llama3.2', 'llama3.2:latest'],
    ['registry.ollama.ai/library/gpt-oss:20b', 'gpt-oss:20b'],
    ['hf.co/user/model-gguf:q4_k_m', 'hf.co/User/Model-GGUF:Q4_K_M'],
    ['me/mine', 'me/mine'],
    ['gpt-oss', null],
    ['gpt-oss:120b', null],
    ['mine', null],
  ])('of Ollama: %s is %s', (name, known) => expect(listedAs('ollama', name, LISTED)).toBe(known))

  it('of another server must match exactly', () => {
    expect(listedAs('openai', 'Qwen/Qwen3-8B', ['Qwen/Qwen3-8B'])).toBe('Qwen/Qwen3-8B')
    expect(listedAs('openai', 'qwen/qwen3-8b', ['Qwen/Qwen3-8B'])).toBeNull()
    expect(listedAs('openai', 'm', ['m:latest'])).toBeNull()
  })
})

describe('an unknown name', () => {
  it('gets up to three of the closest names, best first', () => {
    const known = ['gpt-5.4', 'gpt-5.4-mini', 'gpt-5.4-nano', 'claude-haiku-5-5', 'llama3.2:latest']
    expect(closestNames('gpt-5.4-mni', known)[0]).toBe('gpt-5.4-mini')
    expect(closestNames('GPT-5.4', known)[0]).toBe('gpt-5.4')
    expect(closestNames('llama3', known)).toEqual(['llama3.2:latest'])
    expect(closestNames('anthropic/claude-haiku-5.5', known)).toEqual(['claude-haiku-5-5'])
    expect(closestNames('gpt-5', known)).toHaveLength(3)
    expect(closestNames('something-else-entirely', known)).toEqual([])
  })

  it('is cheap to compare, whatever its length', () => {
    const known = Array.from({ length: 5000 }, (_, n) => `model-${n}-${'x'.repeat(190)}`)
    expect(closestNames('y'.repeat(200), known)).toEqual([])
  })

  const CONFIGURED = [{ name: 'anthropic', defaultModel: 'claude-haiku-5-5' }]
  it.each([
    ['gpt-5.4', /openai is not configured: set OPENAI_API_KEY/],
    ['gpt-99', /openai is not configured: set OPENAI_API_KEY/],
    ['google/gemini-2.5-pro', /google is not configured: set GOOGLE_AI_API_KEY/],
    ['claude-opus-9', /name it "anthropic\/claude-opus-9"; .* PRICES/],
    ['claude-haiku-55', /Did you mean "claude-haiku-5-5"/],
  ])('%s: the message names the remedy', (model, message) =>
    expect(unknownModel(model, CONFIGURED).message).toMatch(message),
  )

  it('is not attributed to a vendor if an operator’s server uses its format', () => {
    const own = [{ name: 'openai', defaultModel: 'qwen3-8b', listed: ['qwen3-8b'] }]
    expect(unknownModel('gpt-5.4', own).message).toMatch(/The server that is configured as openai does not list it\.$/)
  })

  it.each(['qwen3:8b', 'gpt-oss:120b'])(
    'a tagged name that Ollama does not list, %s: the message suggests a pull',
    model => {
      const ollama = [{ name: 'ollama', defaultModel: 'llama3.2:latest', listed: ['llama3.2:latest'] }]
      expect(unknownModel(model, ollama).message).toContain(`run "ollama pull ${model}"`)
    },
  )

  it('suggests another tag of the same model', () => {
    expect(closestNames('llama3.2:1b', ['qwen3:1b', 'llama3.2:latest'])).toEqual(['llama3.2:latest'])
    expect(closestNames('ollama/llama3.2:1b', ['llama3.2:latest'])).toEqual(['llama3.2:latest'])
  })

  it('a model without a price: the message suggests names of the provider, and the setting', () => {
    const openai = [...CONFIGURED, { name: 'openai', defaultModel: 'gpt-5.4' }]
    const { message, closest } = unpricedModel('openai', 'gpt-5-mni', openai)
    expect(closest[0]).toBe('openai/gpt-5-mini')
    expect(message).toMatch(/Did you mean "openai\/gpt-5-mini".* PRICES, as "openai\/gpt-5-mni"/)
    expect(unpricedModel('anthropic', 'gpt-5-mini', openai).closest).toEqual([])
  })

  it.each([
    ['openai', 'gpt-5-mni', 'unknown_model'],
    ['openai', 'gpt-5-mini-', 'unknown_model'],
    ['anthropic', 'claude-hiaku-5-5', 'unknown_model'],
    // These may be new models, which an operator can give a price.
    ['openai', 'gpt-5.9-mini', 'model_price_unknown'],
    ['openai', 'gpt-9', 'model_price_unknown'],
    ['anthropic', 'claude-haiku-7-1', 'model_price_unknown'],
    ['openai', 'someones-model', 'model_price_unknown'],
    // The name is correct.
    ['anthropic', 'claude-haiku-5-5', 'model_price_unknown'],
  ])('a model without a price, %s/%s: the error is %s', (provider, model, code) => {
    const error = unpricedModel(provider, model, [...CONFIGURED, { name: 'openai', defaultModel: 'gpt-5.4' }])
    expect(error.code).toBe(code)
    expect(error.message).toContain(`PRICES, as "${provider}/${model}"`)
  })

  it('a task without a model: the message names the provider and the remedy', () => {
    const ollama = { name: 'ollama', defaultModel: null }
    expect(noModelMessage([{ ...ollama, listed: null }])).toMatch(/ollama .*does not answer.* OLLAMA_HOST/)
    expect(noModelMessage([{ ...ollama, listed: [] }])).toMatch(/ollama .*lists no models/)
    expect(noModelMessage([{ ...ollama, listed: ['nomic-embed-text'] }])).toMatch(/options\.model, or set OLLAMA_MODEL/)
    expect(notConfiguredMessage('anthropic')).toBe('anthropic is not configured: set ANTHROPIC_API_KEY.')
  })

  it('explains how to configure a provider if there is none', () => {
    const none = [{ name: 'ollama', defaultModel: null, listed: [] }]
    expect(unknownModel('llama3', none).message).toMatch(/No provider is configured\. Set ANTHROPIC_API_KEY, /)
  })
})

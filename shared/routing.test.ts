import { describe, expect, it } from 'vitest'
import { type Available, type RouteRequest, route } from './routing.ts'

const ALL: Available[] = [
  { name: 'ollama', defaultModel: 'llama3.2' },
  { name: 'anthropic', defaultModel: 'claude-haiku-5-5' },
  { name: 'openai', defaultModel: 'gpt-5.4-mini' },
]
const routed = (request: RouteRequest, available = ALL) =>
  route(request, available).map(({ provider, model }) => `${provider} ${model}`)

describe('route', () => {
  it('asks all providers for their default model, in the order of the operator', () => {
    expect(routed({})).toEqual(['ollama llama3.2', 'anthropic claude-haiku-5-5', 'openai gpt-5.4-mini'])
  })

  it('asks only the provider that was named', () => {
    expect(routed({ provider: 'openai' })).toEqual(['openai gpt-5.4-mini'])
    expect(routed({ provider: 'openai', model: 'o5' })).toEqual(['openai o5'])
  })

  it('has nobody to ask when the provider that was named is not available', () => {
    expect(routed({ provider: 'google' })).toEqual([])
    expect(routed({}, [])).toEqual([])
  })

  it.each([
    ['claude-opus-5-5', 'anthropic claude-opus-5-5'],
    ['gpt-5.4', 'openai gpt-5.4'],
    ['o4-mini', 'openai o4-mini'],
  ])('knows by its family whose model %s is', (model, expected) => expect(routed({ model })).toEqual([expected]))

  it('asks everybody for a model of a family whose provider is not available: a proxy may serve it', () => {
    expect(routed({ model: 'gemini-3' })).toEqual(['ollama gemini-3', 'anthropic gemini-3', 'openai gemini-3'])
  })

  it('asks everybody for a model of no known family', () => {
    expect(routed({ model: 'mistral' })).toHaveLength(3)
  })

  it('reads <provider>/<model>, also when the model has a slash of its own', () => {
    expect(routed({ model: 'ollama/claude-like' })).toEqual(['ollama claude-like'])
    expect(routed({ model: 'openai/meta/llama' })).toEqual(['openai meta/llama'])
  })

  it('takes a slash for part of the model when what precedes it is no available provider', () => {
    expect(routed({ model: 'meta/llama' })).toContain('openai meta/llama')
    expect(routed({ model: 'openai/' })).toContain('openai openai/')
  })

  it('leaves the model as it is when the provider is named as well', () => {
    expect(routed({ provider: 'openai', model: 'anthropic/claude' })).toEqual(['openai anthropic/claude'])
  })

  it('passes over a provider that has no model to offer, unless one is named', () => {
    const available = [{ name: 'ollama', defaultModel: null }, ALL[1]!]
    expect(routed({}, available)).toEqual(['anthropic claude-haiku-5-5'])
    expect(routed({ provider: 'ollama', model: 'x' }, available)).toEqual(['ollama x'])
  })
})

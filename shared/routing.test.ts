import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Available,
  candidateKey,
  MARGIN,
  type RouteOptions,
  type RouteRequest,
  route,
  type Signals,
} from './routing.ts'

const ALL: Available[] = [
  { name: 'ollama', defaultModel: 'llama3.2' },
  { name: 'anthropic', defaultModel: 'claude-haiku-5-5' },
  { name: 'openai', defaultModel: 'gpt-5.4-mini' },
]
const routed = (request: RouteRequest, available = ALL, options: RouteOptions = {}) =>
  route(request, available, options).map(({ provider, model }) => `${provider} ${model}`)

const EMBEDDING: Available[] = [
  { name: 'anthropic', defaultModel: 'claude-haiku-5-5' },
  { name: 'ollama', defaultModel: 'llama3.2', embeds: { model: null } },
  { name: 'openai', defaultModel: 'gpt-5.4-mini', embeds: { model: 'text-embedding-3-small' } },
  { name: 'google', defaultModel: 'gemini-2.5-flash', embeds: { model: 'my-own' } },
]

describe('route for vectors', () => {
  const vectors = (request: RouteRequest, options: RouteOptions = {}) =>
    routed(request, EMBEDDING, { operation: 'embed', ...options })

  it('asks one model, the first of the operator’s that makes them', () => {
    for (const request of [{}, { model: 'auto' }]) expect(vectors(request)).toEqual(['openai text-embedding-3-small'])
    expect(vectors({ provider: 'google' })).toEqual(['google my-own'])
  })

  it('goes by no score, so that nobody gets vectors of several models', () => {
    const scores = new Map([['openai/text-embedding-3-small', { successRate: 0, health: 0 }]])
    expect(vectors({}, { scores })).toEqual(['openai text-embedding-3-small'])
  })

  it('asks the model that was named, of whoever may have it', () => {
    expect(vectors({ model: 'text-embedding-3-large' })).toEqual(['openai text-embedding-3-large'])
    expect(vectors({ model: 'ollama/nomic-embed-text:v1.5' })).toEqual(['ollama nomic-embed-text:v1.5'])
    expect(vectors({ model: 'bge-m3' })).toEqual(['ollama bge-m3', 'openai bge-m3', 'google bge-m3'])
    expect(vectors({ model: 'google/my-own' })).toEqual(['google my-own'])
  })

  it('never asks a model that writes, nor a provider that makes none', () => {
    for (const request of [
      { provider: 'anthropic' },
      { model: 'anthropic/my-embedding' },
      { model: 'gpt-5.4' },
      { model: 'llama3.2' },
      { provider: 'openai', model: 'my-own' },
      { provider: 'ollama' },
    ])
      expect(vectors(request), JSON.stringify(request)).toEqual([])
  })

  it('keeps to itself: whoever wants text never gets such a model, named, by default or by auto', () => {
    for (const model of ['text-embedding-3-small', 'ollama/mxbai-embed-large', 'google/my-own', 'all-minilm:l6-v2'])
      expect(routed({ model }, EMBEDDING), model).toEqual([])
    const mistaken: Available[] = [{ name: 'ollama', defaultModel: 'nomic-embed-text' }]
    for (const request of [{}, { model: 'auto' }]) expect(routed(request, mistaken)).toEqual([])
  })
})

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

describe('auto', () => {
  it('asks each provider for its cheap or its strong model, by the prompt', () => {
    expect(routed({ model: 'auto' }, ALL, { prompt: 'hello' })).toEqual([
      'ollama llama3.2',
      'anthropic claude-haiku-5-5',
      'openai gpt-5.4-mini',
    ])
    expect(routed({ model: 'auto' }, ALL, { prompt: 'Compare them' })).toEqual([
      'ollama llama3.2',
      'anthropic claude-opus-5-5',
      'openai gpt-5.4',
    ])
  })

  it('goes together with a provider, in either way of naming it', () => {
    const expected = ['anthropic claude-opus-5-5']
    expect(routed({ model: 'anthropic/auto' }, ALL, { prompt: 'analyze' })).toEqual(expected)
    expect(routed({ model: 'auto', provider: 'anthropic' }, ALL, { prompt: 'analyze' })).toEqual(expected)
  })

  it('asks a provider of no known models for its default one', () => {
    expect(routed({ model: 'auto' }, [{ name: 'other', defaultModel: 'm' }])).toEqual(['other m'])
    expect(routed({ model: 'auto' }, [{ name: 'ollama', defaultModel: null }])).toEqual([])
  })
})

describe('the order', () => {
  const scored = (signals: Record<string, Signals>) =>
    route({}, ALL, {
      scores: new Map(
        ALL.flatMap(({ name, defaultModel }) => {
          const one = signals[name]
          return one ? [[candidateKey({ provider: name, model: defaultModel! }), one] as const] : []
        }),
      ),
    }).map(one => one.provider)

  it('is by success, speed and health, weighted', () => {
    // 0.5 x 0.4 + 0.6 = 0.8; 1; 0.4 + 0.5 x 0.3 + 0.3 = 0.85
    expect(
      scored({ ollama: { successRate: 0.5, latency: 10 }, anthropic: { latency: 10 }, openai: { latency: 20 } }),
    ).toEqual(['anthropic', 'openai', 'ollama'])
    expect(scored({ ollama: { health: 0 }, anthropic: { successRate: 0.2 } })).toEqual([
      'openai',
      'ollama',
      'anthropic',
    ])
  })

  it('goes by how a model does, by whichever of its names it is asked for', () => {
    const available = [
      { name: 'anthropic', defaultModel: 'claude-sonnet-5-5-20261001' },
      { name: 'ollama', defaultModel: 'llama3:latest' },
    ]
    for (const [bad, best] of [
      ['anthropic/claude-sonnet-5-5', 'ollama'],
      ['ollama/llama3', 'anthropic'],
    ] as const) {
      const [first] = route({}, available, { scores: new Map([[bad, { successRate: 0 }]]) })
      expect(first).toEqual({ provider: best, model: available.find(one => one.name === best)!.defaultModel })
    }
  })

  it('gives what is not known the benefit of the doubt', () => {
    expect(scored({ ollama: { successRate: 0.8 }, anthropic: { latency: Number.NaN, successRate: 0.8 } })[0]).toBe(
      'openai',
    )
    expect(scored({ ollama: { latency: 0 }, anthropic: { latency: 5 } })).toEqual(['ollama', 'anthropic', 'openai'])
  })

  it('is the operator’s between those that are nearly as good', () => {
    expect(scored({ ollama: { successRate: 0.9 }, anthropic: { successRate: 1 } })).toEqual([
      'ollama',
      'anthropic',
      'openai',
    ])
    expect(scored({ ollama: { successRate: 0.87 } })).toEqual(['anthropic', 'openai', 'ollama'])
  })
})

describe('whatever the scores', () => {
  const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
  const signals = fc.record({
    successRate: optional(fc.double()),
    latency: optional(fc.double()),
    health: optional(fc.double()),
  })
  const names = ['a', 'b', 'c', 'anthropic', 'openai', 'ollama', 'google']
  const world = fc.record({
    available: fc
      .shuffledSubarray(names)
      .map(all => all.map((name): Available => ({ name, defaultModel: `m-${name}` }))),
    scores: fc
      .array(signals, { minLength: names.length, maxLength: names.length })
      .map(all => new Map(names.map((name, i) => [candidateKey({ provider: name, model: `m-${name}` }), all[i]!]))),
  })

  it('asks the same candidates, each once, and the same way every time', () => {
    fc.assert(
      fc.property(world, ({ available, scores }) => {
        const ordered = route({}, available, { scores })
        expect(ordered.toSorted(byName)).toEqual(route({}, available).toSorted(byName))
        expect(route({}, available, { scores })).toEqual(ordered)
      }),
    )
  })

  it('keeps to the provider that was named', () => {
    fc.assert(
      fc.property(world, fc.constantFrom(...names), ({ available, scores }, provider) => {
        const expected = available.some(one => one.name === provider) ? [{ provider, model: 'x' }] : []
        expect(route({ provider, model: 'x' }, available, { scores })).toEqual(expected)
      }),
    )
  })

  it('does not depend on the operator’s order where the scores are apart, and keeps it where they are not', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(names), fc.integer({ min: 0, max: 100 }), (order, spread) => {
        // In even steps.
        const step = spread / 100 / names.length
        const scores = new Map(
          names.map((name, i) => [`${name}/m`, { health: 1 - i * step, successRate: 1 - i * step }]),
        )
        const got = route(
          { model: 'm' },
          order.map(name => ({ name, defaultModel: null })),
          { scores },
        )
        const apart = step * 0.7
        const best = order.toSorted((x, y) => names.indexOf(x) - names.indexOf(y))
        if (apart > MARGIN * 1.01) expect(got.map(one => one.provider)).toEqual(best)
        if (apart * names.length < MARGIN) expect(got.map(one => one.provider)).toEqual(order)
      }),
    )
  })

  it('puts nobody after one who is worse by the margin', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 8 }), percents => {
        const available = percents.map((_, i) => ({ name: `p${i}`, defaultModel: 'm' }))
        const scores = new Map(percents.map((percent, i) => [`p${i}/m`, { successRate: percent / 100 }]))
        const got = route({}, available, { scores }).map(one => percents[Number(one.provider.slice(1))]! * 0.004)
        for (const [i, score] of got.entries())
          for (const later of got.slice(i + 1)) expect(later - score).toBeLessThan(MARGIN + 1e-9)
      }),
    )
  })
})

const byName = (a: { provider: string }, b: { provider: string }) => (a.provider < b.provider ? -1 : 1)

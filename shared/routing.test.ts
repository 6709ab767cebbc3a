import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { targetName } from './gate/target.ts'
import {
  type AvailableProvider,
  type RouteOptions,
  type RouteRequest,
  route,
  SCORE_MARGIN,
  type Signals,
} from './routing.ts'

const ALL: AvailableProvider[] = [
  { name: 'ollama', defaultModel: 'llama3.2' },
  { name: 'anthropic', defaultModel: 'claude-haiku-5-5' },
  { name: 'openai', defaultModel: 'gpt-5.4-mini' },
]
const routed = (request: RouteRequest, available = ALL, options: RouteOptions = {}) =>
  route(request, available, options).map(({ provider, model }) => `${provider} ${model}`)

const EMBEDDING: AvailableProvider[] = [
  { name: 'anthropic', defaultModel: 'claude-haiku-5-5' },
  { name: 'ollama', defaultModel: 'llama3.2', embeds: { model: null } },
  { name: 'openai', defaultModel: 'gpt-5.4-mini', embeds: { model: 'text-embedding-3-small' } },
  { name: 'google', defaultModel: 'gemini-2.5-flash', embeds: { model: 'my-own' } },
]

describe('route for embeddings', () => {
  const vectors = (request: RouteRequest, options: RouteOptions = {}) =>
    routed(request, EMBEDDING, { operation: 'embed', ...options })

  it('selects one model, the first that the operator configured for embeddings', () => {
    for (const request of [{}, { model: 'auto' }]) expect(vectors(request)).toEqual(['openai text-embedding-3-small'])
    expect(vectors({ provider: 'google' })).toEqual(['google my-own'])
  })

  it('ignores scores, so that a client never gets vectors of several models', () => {
    const scores = new Map([['openai/text-embedding-3-small', { successRate: 0, health: 0 }]])
    expect(vectors({}, { scores })).toEqual(['openai text-embedding-3-small'])
  })

  it('selects the named model at the provider that has it', () => {
    expect(vectors({ model: 'text-embedding-3-large' })).toEqual(['openai text-embedding-3-large'])
    expect(vectors({ model: 'ollama/nomic-embed-text:v1.5' })).toEqual(['ollama nomic-embed-text:v1.5'])
    expect(vectors({ model: 'bge-m3' })).toEqual([])
    expect(vectors({ model: 'google/my-own' })).toEqual(['google my-own'])
  })

  it('selects no chat model and no provider without embeddings', () => {
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

  it('never selects an embedding model for text, whether named, default or auto', () => {
    for (const model of ['text-embedding-3-small', 'ollama/mxbai-embed-large', 'google/my-own', 'all-minilm:l6-v2'])
      expect(routed({ model }, EMBEDDING), model).toEqual([])
    const mistaken: AvailableProvider[] = [{ name: 'ollama', defaultModel: 'nomic-embed-text' }]
    for (const request of [{}, { model: 'auto' }]) expect(routed(request, mistaken)).toEqual([])
  })
})

describe('route', () => {
  it('selects the default model of every provider, in the operator’s order', () => {
    expect(routed({})).toEqual(['ollama llama3.2', 'anthropic claude-haiku-5-5', 'openai gpt-5.4-mini'])
  })

  it('selects only the named provider', () => {
    expect(routed({ provider: 'openai' })).toEqual(['openai gpt-5.4-mini'])
    expect(routed({ provider: 'openai', model: 'o5' })).toEqual(['openai o5'])
  })

  it('selects nothing when the named provider is not available', () => {
    expect(routed({ provider: 'google' })).toEqual([])
    expect(routed({}, [])).toEqual([])
  })

  it.each([
    ['claude-opus-5-5', 'anthropic claude-opus-5-5'],
    ['gpt-5.4', 'openai gpt-5.4'],
    ['o4-mini', 'openai o4-mini'],
  ])('knows by its family whose model %s is', (model, expected) => expect(routed({ model })).toEqual([expected]))

  it.each([
    'gemini-3',
    'gemini-2.5-pro',
    'mistral',
    'gpt-oss:20b',
    'gpt-4o-local',
    'claude-haiku-5-5:8b',
    'google/gemini-2.5-pro',
  ])('asks no provider for %s, which none is known to have', model => expect(routed({ model })).toEqual([]))

  it('reads <provider>/<model>, also when the model has a slash of its own', () => {
    expect(routed({ model: 'ollama/claude-like' })).toEqual(['ollama claude-like'])
    expect(routed({ model: 'openai/meta/llama' })).toEqual(['openai meta/llama'])
  })

  it('treats a slash as part of the model when its prefix is no available provider', () => {
    const available = ALL.map(one => (one.name === 'openai' ? { ...one, priced: ['meta/*'] } : one))
    expect(routed({ model: 'meta/llama' }, available)).toEqual(['openai meta/llama'])
    expect(routed({ model: 'openai/' })).toEqual([])
  })

  it('keeps the model as it is when the provider is named too', () => {
    expect(routed({ provider: 'openai', model: 'anthropic/claude' })).toEqual(['openai anthropic/claude'])
  })

  it('skips a provider without a default model, unless a model is named', () => {
    const available = [{ name: 'ollama', defaultModel: null }, ALL[1]!]
    expect(routed({}, available)).toEqual(['anthropic claude-haiku-5-5'])
    expect(routed({ provider: 'ollama', model: 'x' }, available)).toEqual(['ollama x'])
  })
})

describe('servers that list their models', () => {
  const [, ANTHROPIC, OPENAI] = ALL as [AvailableProvider, AvailableProvider, AvailableProvider]
  const ollama = (listed: string[] | null): AvailableProvider => ({ name: 'ollama', defaultModel: 'llama3.2', listed })
  const LISTED = ['llama3.2:latest', 'gpt-oss:20b', 'deepseek-r1:8b', 'claude-haiku-5-5', 'google/gemma-3-12b']
  const GOOGLE: AvailableProvider = { name: 'google', defaultModel: 'gemini-2.5-flash' }
  const DEEPSEEK: AvailableProvider = { name: 'deepseek', defaultModel: 'deepseek-chat' }
  const everything = (listed: string[] | null) => [ANTHROPIC, OPENAI, GOOGLE, DEEPSEEK, ollama(listed)]

  it.each([
    ['gpt-oss:20b', 'ollama gpt-oss:20b'],
    ['GPT-OSS:20B', 'ollama gpt-oss:20b'],
    ['deepseek-r1:8b', 'ollama deepseek-r1:8b'],
    ['llama3.2', 'ollama llama3.2'],
    ['claude-haiku-5-5', 'ollama claude-haiku-5-5'],
    ['google/gemma-3-12b', 'ollama google/gemma-3-12b'],
    ['anthropic/claude-haiku-5-5', 'anthropic claude-haiku-5-5'],
  ])('%s, listed or not, is asked of %s', (model, expected) =>
    expect(routed({ model }, everything(LISTED))).toEqual([expected]),
  )

  it('keep text from vendors: an unlisted and unknown model selects no provider', () => {
    for (const model of ['deepseek-r1', 'deepseek-r1:70b', 'gpt-oss:120b', 'llama4', 'claude-3-opus-of-mine'])
      for (const listed of [LISTED, []]) expect(routed({ model }, everything(listed)), model).toEqual([])
  })

  it('may have any model until they have answered; vendors have only their own', () => {
    expect(routed({ model: 'gpt-oss:20b' }, everything(null))).toEqual(['ollama gpt-oss:20b'])
    expect(routed({ model: 'gpt-5.4' }, everything(null))).toEqual(['openai gpt-5.4'])
  })

  it('have no models of the vendor whose format they speak, unless they list them', () => {
    const own: AvailableProvider = { name: 'openai', defaultModel: 'qwen3', listed: ['qwen3'] }
    expect(routed({ model: 'qwen3' }, [ANTHROPIC, own])).toEqual(['openai qwen3'])
    expect(routed({ model: 'gpt-5.4' }, [ANTHROPIC, own])).toEqual([])
    for (const prompt of ['hello', 'analyze'])
      expect(routed({ model: 'auto' }, [own], { prompt })).toEqual(['openai qwen3'])
  })

  it('PRICES assigns a model to a provider, by name or pattern', () => {
    const available = [ANTHROPIC, { ...OPENAI, priced: ['Qwen/*', 'mine'] }]
    expect(routed({ model: 'Qwen/Qwen3-8B' }, available)).toEqual(['openai Qwen/Qwen3-8B'])
    expect(routed({ model: 'mine' }, available)).toEqual(['openai mine'])
    expect(routed({ model: 'mine-too' }, available)).toEqual([])
  })

  it('a provider that is limited to some kinds is selected for these only', () => {
    const available: AvailableProvider[] = [{ name: 'demo', defaultModel: 'echo', kinds: ['generate'] }]
    expect(routed({}, available, { kind: 'generate' })).toEqual(['demo echo'])
    for (const options of [{}, { kind: 'moderate' }, { kind: 'embed', operation: 'embed' }] as const)
      expect(routed({}, available, options)).toEqual([])
  })
})

describe('auto', () => {
  it('selects the cheap or the strong model of each provider, by the prompt', () => {
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

  it('combines with a provider, in either way of naming it', () => {
    const expected = ['anthropic claude-opus-5-5']
    expect(routed({ model: 'anthropic/auto' }, ALL, { prompt: 'analyze' })).toEqual(expected)
    expect(routed({ model: 'auto', provider: 'anthropic' }, ALL, { prompt: 'analyze' })).toEqual(expected)
  })

  it('selects the default model of a provider without known models', () => {
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
          return one ? [[targetName({ provider: name, model: defaultModel! }), one] as const] : []
        }),
      ),
    }).map(one => one.provider)

  it('weights success, speed and health', () => {
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

  it('uses the signals of a model under any of its names', () => {
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

  it('treats unknown signals as the best', () => {
    expect(scored({ ollama: { successRate: 0.8 }, anthropic: { latency: Number.NaN, successRate: 0.8 } })[0]).toBe(
      'openai',
    )
    expect(scored({ ollama: { latency: 0 }, anthropic: { latency: 5 } })).toEqual(['ollama', 'anthropic', 'openai'])
  })

  it('is the operator’s among near equals', () => {
    expect(scored({ ollama: { successRate: 0.9 }, anthropic: { successRate: 1 } })).toEqual([
      'ollama',
      'anthropic',
      'openai',
    ])
    expect(scored({ ollama: { successRate: 0.87 } })).toEqual(['anthropic', 'openai', 'ollama'])
  })
})

describe('route, for any scores', () => {
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
      .map(all => all.map((name): AvailableProvider => ({ name, defaultModel: `m-${name}` }))),
    scores: fc
      .array(signals, { minLength: names.length, maxLength: names.length })
      .map(all => new Map(names.map((name, i) => [targetName({ provider: name, model: `m-${name}` }), all[i]!]))),
  })

  it('selects the same targets, each once, in a deterministic order', () => {
    fc.assert(
      fc.property(world, ({ available, scores }) => {
        const ordered = route({}, available, { scores })
        expect(ordered.toSorted(byName)).toEqual(route({}, available).toSorted(byName))
        expect(route({}, available, { scores })).toEqual(ordered)
      }),
    )
  })

  it('selects only the named provider', () => {
    fc.assert(
      fc.property(world, fc.constantFrom(...names), ({ available, scores }, provider) => {
        const expected = available.some(one => one.name === provider) ? [{ provider, model: 'x' }] : []
        expect(route({ provider, model: 'x' }, available, { scores })).toEqual(expected)
      }),
    )
  })

  it('depends on the operator’s order only among near equals', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(names), fc.integer({ min: 0, max: 100 }), (order, spread) => {
        // In even steps.
        const step = spread / 100 / names.length
        const scores = new Map(
          names.map((name, i) => [`${name}/m`, { health: 1 - i * step, successRate: 1 - i * step }]),
        )
        const got = route(
          {},
          order.map(name => ({ name, defaultModel: 'm' })),
          { scores },
        )
        const apart = step * 0.7
        const best = order.toSorted((x, y) => names.indexOf(x) - names.indexOf(y))
        if (apart > SCORE_MARGIN * 1.01) expect(got.map(one => one.provider)).toEqual(best)
        if (apart * names.length < SCORE_MARGIN) expect(got.map(one => one.provider)).toEqual(order)
      }),
    )
  })

  it('never ranks a target after a target that is worse by the margin', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 8 }), percents => {
        const available = percents.map((_, i) => ({ name: `p${i}`, defaultModel: 'm' }))
        const scores = new Map(percents.map((percent, i) => [`p${i}/m`, { successRate: percent / 100 }]))
        const got = route({}, available, { scores }).map(one => percents[Number(one.provider.slice(1))]! * 0.004)
        for (const [i, score] of got.entries())
          for (const later of got.slice(i + 1)) expect(later - score).toBeLessThan(SCORE_MARGIN + 1e-9)
      }),
    )
  })
})

const byName = (a: { provider: string }, b: { provider: string }) => (a.provider < b.provider ? -1 : 1)

it('route leaves out models that are declared not to meet the needs of the request', () => {
  const available: AvailableProvider[] = [
    { name: 'local', defaultModel: 'text-only', capabilities: { 'text-only': { images: false } } },
    ...ALL,
  ]
  expect(routed({}, available)[0]).toBe('local text-only')
  expect(routed({}, available, { needs: ['tools'] })[0]).toBe('local text-only')
  expect(routed({}, available, { needs: ['images'] })).toEqual(routed({}))
})

describe('route for pools and aliases', () => {
  const POOL: AvailableProvider[] = [
    { name: 'openai', defaultModel: 'gpt-5.4-mini' },
    { name: 'eu', pool: 'azure', weight: 1, defaultModel: 'gpt-5.4', capabilities: { 'gpt-5.4': {} } },
    {
      name: 'us',
      pool: 'azure',
      weight: 3,
      defaultModel: 'gpt-5.4',
      capabilities: { 'gpt-5.4': {}, 'my-model': { images: false } },
      aliases: { fast: [{ model: 'my-model', rank: 1 }] },
    },
    {
      name: 'anthropic',
      defaultModel: 'claude-haiku-5-5',
      aliases: { fast: [{ model: 'claude-haiku-5-5', rank: 0 }] },
    },
  ]
  const pooled = (request: RouteRequest, options: RouteOptions = {}) => routed(request, POOL, options)

  it('a pool stands for its members that have the model', () => {
    expect(pooled({ model: 'azure/gpt-5.4' })).toEqual(['eu gpt-5.4', 'us gpt-5.4'])
    expect(pooled({ model: 'azure/my-model' })).toEqual(['us my-model'])
    expect(pooled({ provider: 'azure', model: 'gpt-5.4' })).toEqual(['eu gpt-5.4', 'us gpt-5.4'])
    expect(pooled({ model: 'us/gpt-5.4' })).toEqual(['us gpt-5.4'])
    expect(pooled({ model: 'my-model' })).toEqual(['us my-model'])
  })

  it('calls spread over the members by weight, and a member that fails comes later', () => {
    const numbers = [0.9, 0.1, 0.1]
    const random = () => numbers.shift() ?? 0.5
    expect(pooled({ model: 'azure/gpt-5.4' }, { random })).toEqual(['us gpt-5.4', 'eu gpt-5.4'])
    const scores = new Map([['us/gpt-5.4', { health: 0 }]])
    expect(pooled({ model: 'azure/gpt-5.4' }, { random, scores })).toEqual(['eu gpt-5.4', 'us gpt-5.4'])
  })

  it('an alias stands for its models, in its own order', () => {
    expect(pooled({ model: 'fast' })).toEqual(['anthropic claude-haiku-5-5', 'us my-model'])
    expect(pooled({ model: 'fast', provider: 'azure' })).toEqual(['us my-model'])
    expect(pooled({ model: 'fast' }, { needs: ['images'] })).toEqual(['anthropic claude-haiku-5-5'])
  })

  it('a provider with declared models has no others, except by its name', () => {
    const declared: AvailableProvider[] = [{ name: 'openai', defaultModel: 'gpt-5.4', capabilities: { 'gpt-5.4': {} } }]
    expect(routed({ model: 'gpt-5.4-mini' }, declared)).toEqual([])
    expect(routed({ model: 'openai/gpt-5.4-mini' }, declared)).toEqual(['openai gpt-5.4-mini'])
  })
})

import { describe, expect, it } from 'vitest'
import { PRESETS } from '#shared/models/presets.ts'
import { configuredProviders } from './available.ts'
import { mergeProviders } from './merge.ts'
import type { ProviderConfig } from './providers.ts'
import { parseProvidersFile } from './providers-file.ts'

const readKey = (variable: string) => (variable.startsWith('NO_') ? undefined : `key in ${variable}`)
const parse = (text: string) => parseProvidersFile(text, readKey)
const first = (text: string) => parse(text).providers[0]!

describe('a providers file', () => {
  it.each(Object.keys(PRESETS).filter(name => !['azure', 'bedrock', 'vertex'].includes(name)))(
    'needs no more than a preset: %s',
    preset => {
      const { name, baseUrl, explicit } = first(`providers: {a: {preset: ${preset}}}`)
      expect({ name, explicit }).toEqual({ name: 'a', explicit: true })
      expect(baseUrl).toMatch(/^https?:\/\//)
    },
  )

  it('is YAML or JSON, also with tabs', () => {
    const yaml = parse('providers:\n  a: {preset: groq, weight: 2}\n')
    expect(parse('{\n\t"providers": {\n\t\t"a": {"preset": "groq", "weight": 2}\n\t}\n}')).toEqual(yaml)
    expect(parse('').providers).toEqual([])
  })

  it('fills in what a preset knows, and lets the definition decide', () => {
    const groq = first('providers: {a: {preset: groq, base_url: "http://proxy:1/openai/v1", key_env: MY_KEY}}')
    expect(groq).toMatchObject({ adapter: 'openai', baseUrl: 'http://proxy:1/openai/v1', apiKey: 'key in MY_KEY' })
    expect(groq.embeds).toBeUndefined()
    const azure = first('providers: {a: {preset: azure, base_url: "https://r.openai.azure.com/openai/v1/"}}')
    expect(azure).toMatchObject({ adapter: 'azure-openai', baseUrl: 'https://r.openai.azure.com', catalogue: 'openai' })
  })

  it('makes a server without a key free, and asks it for its models', () => {
    const { providers, prices } = parse('providers: {a: {preset: vllm}}')
    expect(providers[0]).toMatchObject({ apiKey: null, lists: true, model: null })
    expect(prices).toEqual([{ provider: 'a', model: '*', prices: [{ input: '0', output: '0' }], last: true }])
    expect(parse('providers: {a: {preset: bedrock, region: us-east-1}}').prices).toEqual([])
  })

  it.each([
    ['providers:\n  a:\n    preset: groqq\n', 3, /^\/providers\/a\/preset must be one of anthropic, /],
    ['providers:\n  a:\n    preset: groq\n    key_enf: K\n', 4, /^\/providers\/a\/key_enf is an unknown field$/],
    ['providers:\n  a: {preset: groq}\n  a: {}\n', 3, /unique/],
    ['providers:\n  a: [\n', 3, /\]/],
    ['providers:\n  A: {preset: groq}\n', 2, /^\/providers\/A must match pattern/],
    ['providers:\n  auto: {preset: groq}\n', 2, /reserved/],
    ['providers:\n  a:\n    preset: groq\n    key_env: NO_KEY\n', 4, /NO_KEY, which is not set$/],
    ['providers:\n  a:\n    preset: vllm\n    models:\n      m:\n        price: {input: -1, output: 2}\n', 6, /input/],
    ['providers:\n  a:\n    preset: vllm\n    models:\n      "m*":\n        limits: {rpm: 1}\n', 6, /one model/],
    ['providers:\n  a: {preset: vllm}\naliases:\n  fast:\n    - m\n', 5, /<provider>\/<model>/],
    ['aliases:\n  fast:\n    - a/m\n    - {model: b/m, weight: 1}\n', 2, /weight to every model/],
    ['- a', 1, /object/],
  ])('is refused with the line of its fault: %j', (text, line, message) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ line, message: expect.stringMatching(message) }))
  })

  it('never quotes a key', () => {
    const quote = (variable: string) => {
      throw new Error(`${variable}: holds the character U+2019`)
    }
    expect(() => parseProvidersFile('providers: {a: {preset: groq}}', quote)).toThrow(/GROQ_API_KEY: holds/)
  })
})

describe('the providers of all sources', () => {
  const settings: ProviderConfig = {
    name: 'openai',
    adapter: 'openai',
    baseUrl: 'http://own',
    apiKey: null,
    model: null,
    explicit: true,
    lists: true,
  }
  const free = { provider: 'openai', model: '*', prices: [{ input: '0', output: '0' }], last: true as const }
  const env = { providers: [settings], prices: [free] }

  it('replace each other as a whole: API before file before settings, each in the place of the first', () => {
    const file = parse('providers: {b: {preset: groq}, openai: {preset: openai}}')
    const [api] = parse('providers: {b: {preset: mistral}}').providers
    const merged = mergeProviders(env, file, [{ config: api!, prices: [] }])
    expect(merged.providers.map(one => [one.name, one.baseUrl])).toEqual([
      ['openai', 'https://api.openai.com/v1'],
      ['b', 'https://api.mistral.ai/v1'],
    ])
    expect([...merged.sources]).toEqual([
      ['openai', 'file'],
      ['b', 'api'],
    ])
    // The vendor is not free because the server that it replaces was.
    expect(merged.prices).toEqual([])
  })

  it('follow the order of the file', () => {
    const merged = mergeProviders(
      env,
      parse('providers: {b: {preset: groq}, c: {preset: xai}}\norder: [c, openai]'),
      [],
    )
    expect(merged.providers.map(one => one.name)).toEqual(['c', 'openai', 'b'])
  })

  it('share the weight of an alias within a pool', () => {
    const file = parse(`
providers:
  a: {preset: vllm, pool: p, weight: 3}
  b: {preset: vllm, pool: p}
aliases: {fast: [{model: p/m, weight: 4}, {model: openai/n, weight: 1}]}
`)
    const aliases = configuredProviders(mergeProviders(env, file, [])).map(one => one.aliases?.fast)
    expect(aliases).toEqual([
      [{ model: 'n', rank: 1, weight: 1 }],
      [{ model: 'm', rank: 0, weight: 3 }],
      [{ model: 'm', rank: 0, weight: 1 }],
    ])
  })
})

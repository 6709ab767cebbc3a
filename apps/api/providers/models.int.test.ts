import { describe, expect, it } from 'vitest'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { sharedStack } from '#shared/testing/stack.ts'

const stack = sharedStack()

type Model = { provider: string; model: string; configured: boolean; default: boolean }
const list = async (query = ''): Promise<Model[]> => (await stack.call('GET', `/api/v1/models${query}`)).body.data

describe('GET /api/v1/models', () => {
  it('returns context windows and prices by band, as decimals', async () => {
    expect(await list()).toContainEqual({
      provider: 'anthropic',
      model: 'claude-haiku-5-5',
      operation: 'chat',
      context_window: 1_000_000,
      max_output_tokens: 128_000,
      price: {
        bands: [
          { above_prompt_tokens: 0, input: '0.1', output: '0.5', cache_read: '0.01', cache_write: '0.125' },
          { above_prompt_tokens: 100_000, input: '0.5', output: '2.5', cache_read: '0.05', cache_write: '0.625' },
        ],
        batch: '0.5',
        effective_from: null,
        hours: null,
        version: expect.stringMatching(/^genai-prices@\S+ sluice@\S+$/),
      },
      configured: true,
      default: true,
    })
    expect(await list('?provider=ollama')).toEqual([
      expect.objectContaining({ model: '*', context_window: null, configured: false, default: false }),
    ])
  })

  it('lists each model of each provider once, and one default per configured provider', async () => {
    const models = await list()
    expect(new Set(models.map(one => one.provider))).toEqual(new Set(PROVIDER_NAMES))
    expect(new Set(models.map(one => `${one.provider}/${one.model}`)).size).toBe(models.length)
    expect(new Set(models.filter(one => one.configured).map(one => one.provider))).toEqual(new Set(['anthropic']))
    expect(models.filter(one => one.default)).toHaveLength(1)
  })

  it('filters by provider', async () => {
    const models = await list('?provider=openai')
    expect(new Set(models.map(one => one.provider))).toEqual(new Set(['openai']))
    expect(models.map(one => one.model)).toContain('gpt-5.4-mini')
    expect(await stack.call('GET', '/api/v1/models?provider=unknown')).toMatchObject({
      status: 422,
      body: { code: 'invalid_request' },
    })
  })
})

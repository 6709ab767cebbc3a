import { describe, expect, it } from 'vitest'
import { startStack } from '#shared/testing/stack.ts'

const stack = startStack()
const NONE = { rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }
const put = (body: object, name = 'anthropic') => stack.call('PUT', `/api/v1/providers/${name}/limits`, { body })
const remove = (query = '', name = 'anthropic') => stack.call('DELETE', `/api/v1/providers/${name}/limits${query}`)
const list = async () => (await stack.call('GET', '/api/v1/providers')).body.data

describe('providers', () => {
  it('lists configured providers, called or not', async () => {
    expect(await list()).toEqual([
      expect.objectContaining({ name: 'anthropic', state: 'ok', default_model: 'claude-haiku-5-5', limits: NONE }),
    ])
    await expect
      .poll(() => stack.call('GET', '/api/v1/providers/anthropic/health'))
      .toMatchObject({
        status: 200,
        body: { name: 'anthropic', state: 'ok', workers: ['ok'] },
      })
    for (const name of ['openai', 'unknown'])
      expect(await stack.call('GET', `/api/v1/providers/${name}/health`)).toMatchObject({
        status: 404,
        body: { code: 'provider_not_found', context: { name } },
      })
  })

  it('shows latency, success rate and breaker of called models', async () => {
    await stack.finished()
    await expect.poll(async () => (await list())[0].latency_ms).toBeGreaterThan(0)
    expect(await list()).toMatchObject([{ model: 'claude-haiku-5-5', success_rate: 1, permits_left: NONE }])
    const { body } = await stack.call('GET', '/api/v1/providers/anthropic/health')
    expect(body.models).toMatchObject([{ model: 'claude-haiku-5-5', breaker: 'closed', waiting: { for_rate: 0 } }])
    expect((await stack.call('GET', '/circuit-breaker')).body.data).toEqual([
      { provider: 'anthropic', model: 'claude-haiku-5-5', state: 'closed', retry_ms: 0 },
    ])
  })
})

describe('limits', () => {
  it('are set, shown and deleted for a provider or one model', async () => {
    expect((await put({ rpm: 100, concurrency: null })).body).toEqual({
      provider: 'anthropic',
      model: null,
      limits: { ...NONE, rpm: 100 },
    })
    expect(await list()).toMatchObject([{ limits: { rpm: 100 } }])
    const model = 'claude-haiku-5-5'
    expect((await put({ tpm: 0, model })).body).toEqual({ provider: 'anthropic', model, limits: { ...NONE, tpm: 0 } })
    expect(await list()).toMatchObject([{ limits: { rpm: null, tpm: 0 } }])
    expect((await remove(`?model=${model}`)).body.limits).toEqual({ ...NONE, rpm: 100 })
    expect((await remove()).body).toEqual({ provider: 'anthropic', model: null, limits: NONE })
    expect(await list()).toMatchObject([{ limits: NONE }])
  })

  it('may be set before the provider is called', async () => {
    expect((await put({ rpm: 5 }, 'deepseek')).status).toBe(200)
    expect((await remove('', 'deepseek')).status).toBe(200)
  })

  it('apply at once to models that were called', async () => {
    await stack.finished()
    await put({ concurrency: 0, rpm: 3 })
    const { body } = await stack.call('GET', '/api/v1/providers/anthropic/health')
    await remove()
    expect(body.models).toMatchObject([{ permits_left: { concurrency: 0 }, limits: { concurrency: 0, rpm: 3 } }])
  })

  it.each([
    ['/rpm', { rpm: -1 }],
    ['/tpm', { tpm: 1.5 }],
    ['/itpm', { itpm: '10' }],
    ['/concurrency', { concurrency: 1e13 }],
    ['/more', { more: 1 }],
    ['/model', { rpm: 1, model: '*' }],
    ['/model', { rpm: 1, model: '' }],
    ['/model', { rpm: 1, model: 'a\0' }],
  ])('with a wrong %s are refused: %j', async (field, body) => {
    expect(await put(body)).toMatchObject({ status: 422, body: { context: { field } } })
    expect(await list()).toMatchObject([{ limits: NONE }])
  })

  it('of an unknown provider are refused', async () => {
    expect(await put({ rpm: 1 }, 'unknown')).toMatchObject({ status: 404, body: { code: 'provider_not_found' } })
    expect(await remove('', 'unknown')).toMatchObject({ status: 404 })
  })
})

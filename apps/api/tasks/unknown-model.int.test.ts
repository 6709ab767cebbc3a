import { describe, expect, it } from 'vitest'
import { startStack } from '#shared/testing/stack.ts'

/** Every provider is configured. Ollama and a server without a key list models with names like those of vendors. */
const stack = startStack(upstream => ({
  PROVIDERS: 'anthropic,google,deepseek,ollama,openai',
  ...{
    GOOGLE_AI_API_KEY: 'k',
    GOOGLE_AI_BASE_URL: upstream.url,
    DEEPSEEK_API_KEY: 'k',
    DEEPSEEK_BASE_URL: upstream.url,
  },
  ...{ OLLAMA_HOST: upstream.url, OPENAI_BASE_URL: upstream.url },
}))
const { call, submit, finished } = stack
const LISTED = ['gpt-oss:20b', 'deepseek-r1:8b', 'llama3.2:latest']

/** Waits until the API has the model lists of the servers. */
const listed = async () => {
  stack.upstream.models(LISTED)
  stack.upstream.ownModels(['Qwen/Qwen3-8B', 'google/gemma-3-12b'])
  const closestOf = async (model: string) => (await submit({ options: { model } })).body.context?.closest ?? []
  const known = { timeout: 30_000, interval: 200 }
  await expect.poll(() => closestOf('gpt-oss'), known).toContain('gpt-oss:20b')
  await expect.poll(() => closestOf('Qwen/Qwen3-8'), known).toContain('Qwen/Qwen3-8B')
}

describe('a model name', () => {
  it.each(['gpt-oss:20b', 'deepseek-r1:8b', 'GPT-OSS:20B', 'llama3.2'])(
    '%s goes to the Ollama server that lists it',
    async model => {
      await listed()
      expect(await finished({ options: { model } })).toMatchObject({ status: 'succeeded', provider: 'ollama' })
    },
  )

  it.each(['Qwen/Qwen3-8B', 'google/gemma-3-12b', 'openai/Qwen/Qwen3-8B'])(
    '%s goes to the server without a key, at no cost',
    async model => {
      await listed()
      expect(await finished({ options: { model } })).toMatchObject({
        status: 'succeeded',
        provider: 'openai',
        cost_usd: 0,
      })
    },
  )

  it.each([
    ['deepseek-r1:70b', 'deepseek-r1:8b'],
    ['gpt-oss', 'gpt-oss:20b'],
    ['claude-haiku-5.5.x', 'claude-haiku-5-5'],
  ])('%s, unknown to all providers, is refused with the closest names', async (model, closest) => {
    await listed()
    const { status, body } = await submit({ options: { model } })
    expect([status, body.code]).toEqual([422, 'unknown_model'])
    expect(body.context).toMatchObject({ field: '/options/model', model, closest: expect.arrayContaining([closest]) })
    expect(body.detail).toContain(closest)
  })

  it('with the name of its provider is unknown if it is a misspelling, and otherwise has no price', async () => {
    const errorOf = async (model: string) => (await submit({ options: { model } })).body
    expect(await errorOf('anthropic/claude-hiaku-5-5')).toMatchObject({
      code: 'unknown_model',
      context: { closest: expect.arrayContaining(['anthropic/claude-haiku-5-5']) },
    })
    expect((await errorOf('anthropic/claude-haiku-9-9')).code).toBe('model_price_unknown')
  })

  it('that is unknown is 404 model_not_found for OpenAI clients', async () => {
    await listed()
    const { status, body } = await call('POST', '/v1/embeddings', {
      body: { input: 'a', model: 'text-embedding-mine' },
    })
    expect([status, body.error.code, body.error.param]).toEqual([404, 'model_not_found', 'model'])
    const moderated = await call('POST', '/v1/moderations', { body: { input: 'a', model: 'gpt-oss:7b' } })
    expect([moderated.status, moderated.body.error.code]).toEqual([404, 'model_not_found'])
  })
})

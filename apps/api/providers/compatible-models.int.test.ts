import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { ADMIN, startStack } from '#shared/testing/stack.ts'

const LOCAL = 'hf.co/bartowski/Llama-3.2:Q4_K_M'
const stack = startStack(upstream => ({ PROVIDERS: 'anthropic,ollama', OLLAMA_HOST: upstream.url }))

describe('the models of the configured providers', () => {
  let openai: OpenAI
  let anthropic: Anthropic
  beforeAll(async () => {
    const url = `http://127.0.0.1:${stack.api.port}`
    openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: ADMIN, maxRetries: 0 })
    anthropic = new Anthropic({ baseURL: url, apiKey: ADMIN, maxRetries: 0 })
    stack.upstream.models([LOCAL])
    await vi.waitFor(async () => expect((await openai.models.list()).data.map(one => one.id)).toContain(LOCAL), {
      timeout: 30_000,
      interval: 100,
    })
  })

  it('are listed for OpenAI’s SDK', async () => {
    const { data } = await openai.models.list()
    expect(data).toContainEqual({ id: 'claude-haiku-5-5', object: 'model', created: 0, owned_by: 'anthropic' })
    expect(data).toContainEqual(expect.objectContaining({ id: LOCAL, owned_by: 'ollama' }))
    expect(data.map(one => one.owned_by)).not.toContain('openai')
  })

  it.each(['claude-haiku-5-5', 'anthropic/claude-haiku-5-5', LOCAL])('include %s', async id => {
    expect(await openai.models.retrieve(id)).toMatchObject({ id, object: 'model' })
    expect(await anthropic.models.retrieve(id)).toMatchObject({ id, type: 'model' })
  })

  it('are paged for Anthropic’s SDK', async () => {
    const first = await anthropic.models.list({ limit: 2 })
    expect(first).toMatchObject({ has_more: true, last_id: first.data[1]?.id })
    const all: string[] = []
    for await (const { id } of first) all.push(id)
    expect(all).toEqual((await openai.models.list()).data.map(one => one.id))
    expect((await anthropic.models.list({ limit: 1, before_id: all[2]! })).data).toMatchObject([{ id: all[1] }])
  })

  it('do not include a name that no provider has', async () => {
    await expect(openai.models.retrieve('gpt-unknown')).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
    await expect(anthropic.models.retrieve('gpt-unknown')).rejects.toMatchObject({
      status: 404,
      type: 'not_found_error',
      requestID: expect.any(String),
    })
  })
})

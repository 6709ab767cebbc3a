import OpenAI from 'openai'
import { beforeAll, describe, expect, it } from 'vitest'
import { sharedStack } from '#shared/testing/stack.ts'
import { wireFault } from '#shared/testing/wire-schemas.ts'

const stack = sharedStack()

describe('stored chat completions', () => {
  let client: OpenAI
  let other: OpenAI
  let stored: OpenAI.ChatCompletion[]
  const create = (content: string, more: Partial<OpenAI.ChatCompletionCreateParamsNonStreaming> = {}) =>
    client.chat.completions.create({
      model: 'claude-haiku-5-5',
      messages: [{ role: 'user', content }],
      store: true,
      ...more,
    })

  beforeAll(async () => {
    const [own, foreign] = await Promise.all([stack.makeKey(), stack.makeKey()])
    const connect = (apiKey: string) =>
      new OpenAI({ baseURL: `http://127.0.0.1:${stack.api.port}/v1`, apiKey, maxRetries: 0 })
    client = connect(own.secret)
    other = connect(foreign.secret)
    stored = [
      await create('one', { metadata: { topic: 'redis' } }),
      await create('two', { metadata: { topic: 'postgres' } }),
      await create('three', { metadata: { topic: 'redis', draft: 'yes' } }),
    ]
    await create('not stored', { store: false })
  })
  const idsOf = (all: OpenAI.ChatCompletion[]) => all.map(one => one.id)

  it('are listed by age, page by page', async () => {
    const all: OpenAI.ChatCompletion[] = []
    for await (const one of client.chat.completions.list({ limit: 2 })) all.push(one)
    expect(idsOf(all)).toEqual(idsOf(stored))
    const [newest] = (await client.chat.completions.list({ order: 'desc', limit: 1 })).data
    expect(newest?.id).toBe(stored[2]?.id)
    expect(wireFault('openAiCompletion', JSON.parse(JSON.stringify(newest)))).toBeNull()
  })

  it('are filtered by metadata and model', async () => {
    const about = async (metadata: Record<string, string>) =>
      idsOf((await client.chat.completions.list({ metadata })).data)
    expect(await about({ topic: 'redis' })).toEqual([stored[0]?.id, stored[2]?.id])
    expect(await about({ topic: 'redis', draft: 'yes' })).toEqual([stored[2]?.id])
    expect((await client.chat.completions.list({ model: 'gpt-5.4-mini' })).data).toEqual([])
  })

  it('can be read, with their messages', async () => {
    const id = stored[0]?.id ?? ''
    expect(await client.chat.completions.retrieve(id)).toMatchObject({
      id,
      choices: stored[0]?.choices,
      metadata: { topic: 'redis' },
    })
    expect((await client.chat.completions.messages.list(id)).data).toMatchObject([{ role: 'user', content: 'one' }])
  })

  it('belong to their key', async () => {
    await expect(other.chat.completions.retrieve(stored[0]?.id ?? '')).rejects.toBeInstanceOf(OpenAI.NotFoundError)
    expect((await other.chat.completions.list()).data).toEqual([])
  })

  it('can be updated and deleted', async () => {
    const { id } = await create('four')
    expect(await client.chat.completions.update(id, { metadata: { topic: 'mysql' } })).toMatchObject({
      metadata: { topic: 'mysql' },
    })
    expect(await client.chat.completions.delete(id)).toMatchObject({ id, deleted: true })
    await expect(client.chat.completions.retrieve(id)).rejects.toBeInstanceOf(OpenAI.NotFoundError)
  })
})

import type OpenAI from 'openai'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { ADMIN } from '#shared/testing/stack.ts'
import { checkedFetch } from './checked-fetch.ts'
import { collect, load, MODELS, PNG, startSdkStack, WEATHER } from './sdk-stack.ts'

const stack = startSdkStack()
const answers = checkedFetch((method, path) => {
  if (path === '/v1/chat/completions' && method === 'POST') return { whole: 'openAiCompletion', event: 'openAiChunk' }
  return path.startsWith('/v1/models/') ? { whole: 'openAiModel' } : null
})

const WEATHER_TOOL = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'The weather in a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}

describe.each(['openai', 'openai-previous'])('the package %s', name => {
  let Sdk: typeof import('openai')
  let zodHelpers: typeof import('openai/helpers/zod')
  let client: OpenAI
  beforeAll(async () => {
    Sdk = await load(name)
    zodHelpers = await load(`${name}/helpers/zod`)
    client = new Sdk.OpenAI({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN, maxRetries: 0, fetch: answers.fetch })
  })
  beforeEach(() => {
    stack.upstream.reset()
    stack.upstream.models(['llama3.2:latest'])
  })

  describe.each(MODELS)('on %s', (_, model) => {
    afterEach(async () => {
      expect(await answers.faults()).toEqual([])
    })
    const ask = (more: object = {}) => ({ model, messages: [{ role: 'user' as const, content: 'Say hello' }], ...more })

    it('gets a completion', async () => {
      const { data, request_id } = await client.chat.completions.create(ask()).withResponse()
      expect(data.choices[0]).toMatchObject({
        finish_reason: 'stop',
        message: { role: 'assistant', content: 'Hello from upstream.' },
      })
      expect(data.usage?.total_tokens).toBeGreaterThan(0)
      expect(request_id).toBeTruthy()
    })

    it('streams text, then the usage', async () => {
      const stream = await client.chat.completions.create({
        ...ask(),
        stream: true,
        stream_options: { include_usage: true },
      })
      const chunks = await collect(stream)
      expect(chunks.map(one => one.choices[0]?.delta.content ?? '').join('')).toBe('Hello from upstream.')
      expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: expect.any(Number) } })
      expect(chunks.slice(0, -1).every(one => !one.usage)).toBe(true)
    })

    it('runs a tool loop', async () => {
      stack.upstream.script({ toolCalls: [{ name: 'get_weather', arguments: WEATHER }] }, { text: 'It rains in Oslo.' })
      const runner = client.chat.completions.runTools({
        ...ask(),
        tools: [
          {
            type: 'function',
            function: {
              name: 'get_weather',
              description: 'The weather in a city',
              parameters: WEATHER_TOOL.function.parameters,
              parse: (text: string): { city: string } => JSON.parse(text),
              function: ({ city }: { city: string }) => `Rain in ${city}`,
            },
          },
        ],
      })
      expect(await runner.finalContent()).toBe('It rains in Oslo.')
      expect(await runner.finalFunctionToolCallResult()).toBe('Rain in Oslo')
      expect(stack.upstream.calls[1]?.prompt).toContain('Rain in Oslo')
    })

    it('streams two tool calls at once', async () => {
      const calls = [
        { name: 'get_weather', arguments: WEATHER },
        { name: 'get_weather', arguments: { city: 'Rome' } },
      ]
      stack.upstream.script({ toolCalls: calls })
      const stream = client.chat.completions.stream(ask({ tools: [WEATHER_TOOL] }))
      const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0]!
      expect(finish_reason).toBe('tool_calls')
      expect(message.tool_calls?.map(one => one.type === 'function' && JSON.parse(one.function.arguments))).toEqual(
        calls.map(one => one.arguments),
      )
      expect(new Set(message.tool_calls?.map(one => one.id)).size).toBe(2)
    })

    it('parses a structured answer', async () => {
      stack.upstream.script({ text: '{"city":"Oslo","degrees":4}' })
      const shape = z.object({ city: z.string(), degrees: z.number() })
      const completion = await client.chat.completions.parse(
        ask({ response_format: zodHelpers.zodResponseFormat(shape, 'weather') }),
      )
      expect(completion.choices[0]?.message.parsed).toEqual({ city: 'Oslo', degrees: 4 })
    })

    it('sends an image', async () => {
      const content = [
        { type: 'text' as const, text: 'What is this?' },
        { type: 'image_url' as const, image_url: { url: `data:image/png;base64,${PNG}` } },
      ]
      await client.chat.completions.create(ask({ messages: [{ role: 'user', content }] }))
      expect(JSON.stringify(stack.upstream.calls[0]?.body)).toContain(PNG)
    })

    it('sees that an answer was cut off', async () => {
      stack.upstream.script({ stop: 'max_tokens' })
      const completion = await client.chat.completions.create(ask({ max_completion_tokens: 5 }))
      expect(completion.choices[0]?.finish_reason).toBe('length')
    })
  })

  it('gets an error with its code, parameter and request id', async () => {
    const unknown = client.chat.completions.create({ model: 'gpt-unknown', messages: [{ role: 'user', content: 'a' }] })
    await expect(unknown).rejects.toBeInstanceOf(Sdk.NotFoundError)
    await expect(unknown).rejects.toMatchObject({ code: 'model_not_found', requestID: expect.any(String) })
    const wrong = client.chat.completions.create({
      model: 'gpt-5.4-mini',
      messages: [{ role: 'user', content: 'a' }],
      temperature: 3,
    })
    await expect(wrong).rejects.toBeInstanceOf(Sdk.BadRequestError)
    await expect(wrong).rejects.toMatchObject({ param: 'temperature' })
    expect(stack.upstream.calls).toEqual([])
  })

  it('sees an error in the middle of a stream', async () => {
    stack.upstream.script({ fault: 'error_event' })
    const unchecked = new Sdk.OpenAI({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN, maxRetries: 0 })
    const stream = await unchecked.chat.completions.create({
      model: 'openai/gpt-5.4-mini',
      messages: [{ role: 'user', content: 'a' }],
      stream: true,
    })
    await expect(collect(stream)).rejects.toBeInstanceOf(Sdk.APIError)
  })

  it('stops the call when it aborts a stream', async () => {
    const held = stack.upstream.hold({ midway: true })
    const unchecked = new Sdk.OpenAI({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN })
    const stream = await unchecked.chat.completions.create({
      model: 'openai/gpt-5.4-mini',
      messages: [{ role: 'user', content: 'a' }],
      stream: true,
    })
    for await (const _ of stream) break
    await stack.upstream.aborted(1)
    held.release()
  })

  it('gets one answer when it repeats a request whose answer was lost', async () => {
    const held = stack.upstream.hold()
    const retrying = new Sdk.OpenAI({ baseURL: `${stack.url()}/v1`, apiKey: ADMIN, maxRetries: 2, timeout: 1000 })
    const answer = retrying.chat.completions.create({
      model: 'openai/gpt-5.4-mini',
      messages: [{ role: 'user', content: 'a' }],
    })
    await held.waiting()
    setTimeout(held.release, 1300)
    expect((await answer).choices[0]?.message.content).toBe('Hello from upstream.')
    expect(stack.upstream.count()).toBe(1)
  })
})

import type Anthropic from '@anthropic-ai/sdk'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { ADMIN } from '#shared/testing/stack.ts'
import { checkedFetch } from './checked-fetch.ts'
import { collect, load, MODELS, PNG, startSdkStack, WEATHER } from './sdk-stack.ts'

const stack = startSdkStack()
const answers = checkedFetch((method, path) => {
  if (path === '/v1/messages' && method === 'POST') return { whole: 'anthropicMessage', event: 'anthropicEvent' }
  return path === '/v1/messages/count_tokens' ? { whole: 'anthropicTokensCount' } : null
})

const WEATHER_TOOL: Anthropic.Tool = {
  name: 'get_weather',
  description: 'The weather in a city',
  input_schema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
}

describe.each(['@anthropic-ai/sdk', 'anthropic-previous'])('the package %s', name => {
  let Sdk: typeof import('@anthropic-ai/sdk')
  let zodHelpers: typeof import('@anthropic-ai/sdk/helpers/zod')
  let betaHelpers: typeof import('@anthropic-ai/sdk/helpers/beta/zod')
  let client: Anthropic
  beforeAll(async () => {
    Sdk = await load(name)
    zodHelpers = await load(`${name}/helpers/zod`)
    betaHelpers = await load(`${name}/helpers/beta/zod`)
    client = new Sdk.Anthropic({ baseURL: stack.url(), apiKey: ADMIN, maxRetries: 0, fetch: answers.fetch })
  })
  beforeEach(() => {
    stack.upstream.reset()
    stack.upstream.models(['llama3.2:latest'])
  })

  describe.each(MODELS)('on %s', (provider, model) => {
    afterEach(async () => {
      expect(await answers.faults()).toEqual([])
    })
    const ask = (more: Partial<Anthropic.MessageCreateParamsNonStreaming> = {}) => ({
      model,
      max_tokens: 100,
      messages: [{ role: 'user' as const, content: 'Say hello' }],
      ...more,
    })

    it('gets a message', async () => {
      const { data, request_id } = await client.messages.create(ask({ system: 'Be brief' })).withResponse()
      expect(data).toMatchObject({
        stop_reason: 'end_turn',
        content: [{ type: 'text', text: 'Hello from upstream.' }],
        usage: { output_tokens: expect.any(Number) },
      })
      expect(request_id).toBeTruthy()
      expect(stack.upstream.calls[0]?.prompt).toContain('Be brief')
    })

    it('streams a message', async () => {
      const stream = client.messages.stream(ask())
      const message = await stream.finalMessage()
      expect(message.content).toMatchObject([{ type: 'text', text: 'Hello from upstream.' }])
      expect(message.usage.output_tokens).toBeGreaterThan(0)
      expect(message.usage.input_tokens).toBeGreaterThan(0)
    })

    it('runs a tool loop', async () => {
      stack.upstream.script({ toolCalls: [{ name: 'get_weather', arguments: WEATHER }] }, { text: 'It rains in Oslo.' })
      const tool = betaHelpers.betaZodTool({
        name: 'get_weather',
        description: 'The weather in a city',
        inputSchema: z.object({ city: z.string() }),
        run: ({ city }) => `Rain in ${city}`,
      })
      const message = await client.beta.messages.toolRunner({ ...ask(), tools: [tool] })
      expect(message.content).toMatchObject([{ type: 'text', text: 'It rains in Oslo.' }])
      expect(stack.upstream.calls[1]?.prompt).toContain('Rain in Oslo')
    })

    it('streams two tool calls at once', async () => {
      const calls = [
        { name: 'get_weather', arguments: WEATHER },
        { name: 'get_weather', arguments: { city: 'Rome' } },
      ]
      stack.upstream.script({ toolCalls: calls })
      const message = await client.messages.stream(ask({ tools: [WEATHER_TOOL] })).finalMessage()
      expect(message.stop_reason).toBe('tool_use')
      expect(message.content.map(one => one.type === 'tool_use' && one.input)).toEqual(calls.map(one => one.arguments))
    })

    it('parses a structured answer', async () => {
      stack.upstream.script({ text: '{"city":"Oslo","degrees":4}' })
      const format = zodHelpers.zodOutputFormat(z.object({ city: z.string(), degrees: z.number() }))
      const message = await client.messages.parse({ ...ask(), output_config: { format } })
      expect(message.parsed_output).toEqual({ city: 'Oslo', degrees: 4 })
    })

    it('sends an image', async () => {
      const source = { type: 'base64' as const, media_type: 'image/png' as const, data: PNG }
      const content = [
        { type: 'text' as const, text: 'What is this?' },
        { type: 'image' as const, source },
      ]
      await client.messages.create(ask({ messages: [{ role: 'user', content }] }))
      expect(JSON.stringify(stack.upstream.calls[0]?.body)).toContain(PNG)
    })

    it('sees that an answer was cut off', async () => {
      stack.upstream.script({ stop: 'max_tokens' })
      expect((await client.messages.create(ask({ max_tokens: 5 }))).stop_reason).toBe('max_tokens')
    })

    it('counts the tokens of a request', async () => {
      const counted = await client.messages.countTokens({ model, messages: [{ role: 'user', content: 'Say hello' }] })
      expect(counted.input_tokens).toBeGreaterThan(0)
    })

    if (provider !== 'OpenAI')
      it('gets the reasoning of the model', async () => {
        stack.upstream.script({ thinking: 'They want a greeting.', text: 'Hello.' })
        const thinking = { type: 'enabled' as const, budget_tokens: 1024 }
        const message = await client.messages.stream(ask({ max_tokens: 2000, thinking })).finalMessage()
        expect(message.content).toMatchObject([
          { type: 'thinking', thinking: 'They want a greeting.' },
          { type: 'text', text: 'Hello.' },
        ])
      })
  })

  it('gets an error with its type and request id', async () => {
    const messages = [{ role: 'user' as const, content: 'a' }]
    const unknown = client.messages.create({ model: 'claude-unknown', max_tokens: 10, messages })
    await expect(unknown).rejects.toBeInstanceOf(Sdk.NotFoundError)
    await expect(unknown).rejects.toMatchObject({ requestID: expect.any(String) })
    const wrong = client.messages.create({ model: 'claude-haiku-5-5', max_tokens: 0, messages })
    await expect(wrong).rejects.toBeInstanceOf(Sdk.BadRequestError)
    const anonymous = new Sdk.Anthropic({ baseURL: stack.url(), apiKey: 'wrong', maxRetries: 0 })
    await expect(
      anonymous.messages.create({ model: 'claude-haiku-5-5', max_tokens: 10, messages }),
    ).rejects.toBeInstanceOf(Sdk.AuthenticationError)
    expect(stack.upstream.calls).toEqual([])
  })

  it('sees an error in the middle of a stream', async () => {
    stack.upstream.script({ fault: 'error_event' })
    const unchecked = new Sdk.Anthropic({ baseURL: stack.url(), apiKey: ADMIN, maxRetries: 0 })
    const stream = await unchecked.messages.create({
      model: 'anthropic/claude-haiku-5-5',
      max_tokens: 10,
      messages: [{ role: 'user', content: 'a' }],
      stream: true,
    })
    await expect(collect(stream)).rejects.toBeInstanceOf(Sdk.APIError)
  })

  it('lists models with the fields of Anthropic', async () => {
    const page = await client.models.list()
    expect(page.data).toContainEqual(
      expect.objectContaining({ type: 'model', id: expect.stringContaining('claude-haiku-5-5') }),
    )
  })
})

import type OpenAI from 'openai'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { ADMIN } from '#shared/testing/stack.ts'
import { checkedFetch } from './checked-fetch.ts'
import { collect, load, MODELS, PNG, startSdkStack, WEATHER } from './sdk-stack.ts'

const stack = startSdkStack()
const answers = checkedFetch((method, path) => {
  if (/^\/v1\/responses(\/resp_\w+)?$/.test(path) && method !== 'DELETE')
    return { whole: 'openAiResponse', event: 'openAiResponseEvent' }
  return null
})

const WEATHER_TOOL = {
  type: 'function' as const,
  name: 'get_weather',
  description: 'The weather in a city',
  strict: true,
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' } },
    required: ['city'],
    additionalProperties: false,
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

    it('gets a response, also later', async () => {
      const response = await client.responses.create({ model, input: 'Say hello', instructions: 'Be brief' })
      expect(response).toMatchObject({ status: 'completed', output_text: 'Hello from upstream.' })
      expect(stack.upstream.calls[0]?.prompt).toContain('Be brief')
      expect(await client.responses.retrieve(response.id)).toMatchObject({ id: response.id, output: response.output })
    })

    it('streams events in order', async () => {
      const events = await collect(await client.responses.create({ model, input: 'Say hello', stream: true }))
      expect(events.map(one => one.sequence_number)).toEqual(events.map((_, n) => n))
      expect(events[0]?.type).toBe('response.created')
      expect(events.at(-1)).toMatchObject({ type: 'response.completed', response: { status: 'completed' } })
    })

    it('runs a tool loop on the previous response', async () => {
      stack.upstream.script({ toolCalls: [{ name: 'get_weather', arguments: WEATHER }] }, { text: 'It rains in Oslo.' })
      const first = await client.responses
        .stream({ model, input: 'The weather in Oslo?', tools: [WEATHER_TOOL] })
        .finalResponse()
      const call = first.output.find(one => one.type === 'function_call')
      expect(call && JSON.parse(call.arguments)).toEqual(WEATHER)
      const second = await client.responses.create({
        model,
        previous_response_id: first.id,
        input: [{ type: 'function_call_output', call_id: call?.call_id ?? '', output: 'Rain in Oslo' }],
        tools: [WEATHER_TOOL],
      })
      expect(second.output_text).toBe('It rains in Oslo.')
      expect(stack.upstream.calls[1]?.prompt).toMatch(/The weather in Oslo\?.*Rain in Oslo/s)
    })

    it('parses a structured answer', async () => {
      stack.upstream.script({ text: '{"city":"Oslo","degrees":4}' })
      const shape = z.object({ city: z.string(), degrees: z.number() })
      const response = await client.responses.parse({
        model,
        input: 'The weather in Oslo?',
        text: { format: zodHelpers.zodTextFormat(shape, 'weather') },
      })
      expect(response.output_parsed).toEqual({ city: 'Oslo', degrees: 4 })
    })

    it('sends an image', async () => {
      await client.responses.create({
        model,
        input: [
          {
            role: 'user',
            content: [
              { type: 'input_text', text: 'What is this?' },
              { type: 'input_image', image_url: `data:image/png;base64,${PNG}`, detail: 'auto' },
            ],
          },
        ],
      })
      expect(JSON.stringify(stack.upstream.calls[0]?.body)).toContain(PNG)
    })

    it('sees that an answer was cut off', async () => {
      stack.upstream.script({ stop: 'max_tokens' })
      const response = await client.responses.create({ model, input: 'Say hello', max_output_tokens: 16 })
      expect(response).toMatchObject({ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } })
    })

    it('runs in the background and resumes the stream of its events', async () => {
      const held = stack.upstream.hold()
      const begun = await client.responses.create({ model, input: 'Say hello', background: true })
      expect(['queued', 'in_progress']).toContain(begun.status)
      held.release()
      await expect
        .poll(async () => (await client.responses.retrieve(begun.id)).status, { interval: 50 })
        .toBe('completed')
      const all = await collect(await client.responses.retrieve(begun.id, { stream: true }))
      expect(all.at(-1)?.type).toBe('response.completed')
      const rest = await collect(await client.responses.retrieve(begun.id, { stream: true, starting_after: 2 }))
      expect(rest).toEqual(all.slice(3))
    })
  })

  it('gets an error with its code, parameter and request id', async () => {
    const unknown = client.responses.create({ model: 'gpt-unknown', input: 'a' })
    await expect(unknown).rejects.toBeInstanceOf(Sdk.NotFoundError)
    await expect(unknown).rejects.toMatchObject({ code: 'model_not_found', requestID: expect.any(String) })
    const orphan = client.responses.create({ model: 'openai/gpt-5.4-mini', input: 'a', previous_response_id: 'resp_0' })
    await expect(orphan).rejects.toMatchObject({ param: 'previous_response_id', code: 'previous_response_not_found' })
    const conversing = client.responses.create({ model: 'openai/gpt-5.4-mini', input: 'a', conversation: 'conv_1' })
    await expect(conversing).rejects.toMatchObject({ param: 'conversation', code: 'unsupported_parameter' })
    expect(stack.upstream.calls).toEqual([])
  })
})

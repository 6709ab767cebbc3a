import OpenAI, { BadRequestError } from 'openai'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Receiver, startReceiver } from '#shared/testing/receiver.ts'
import { ADMIN, startStack } from '#shared/testing/stack.ts'

/** Requests that a provider of another format cannot honour completely. */

const stack = startStack(upstream => ({ PROVIDERS: 'ollama', OLLAMA_HOST: upstream.url, OLLAMA_MODEL: 'llama3.2' }))
let openai: OpenAI
beforeAll(() => {
  openai = new OpenAI({ baseURL: `http://127.0.0.1:${stack.api.port}/v1`, apiKey: ADMIN })
})
beforeEach(() => stack.upstream.reset())

const TOOL = {
  type: 'function',
  function: { name: 'weather', parameters: { type: 'object', properties: {} } },
} as const
const request = {
  model: 'ollama/llama3.2',
  messages: [{ role: 'user', content: 'Weather?' }],
  tools: [TOOL],
  tool_choice: 'required',
} as const satisfies OpenAI.ChatCompletionCreateParams
const lossy = (value: string) => ({ headers: { 'x-sluice-allow-lossy': value } })

describe('a parameter that the provider does not know', () => {
  it('is refused by name, without a call', async () => {
    const error = await openai.chat.completions.create({ ...request }).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(BadRequestError)
    expect(error).toMatchObject({ code: 'unsupported_parameter', param: 'tool_choice', type: 'invalid_request_error' })
    expect(stack.upstream.count()).toBe(0)
    expect(await stack.sql('SELECT 1 FROM tasks')).toEqual([])
  })

  it.each([false, true])('is left out if the client permits it, and named in a header; streamed: %s', async stream => {
    stack.upstream.default({ toolCalls: [{ name: 'weather', arguments: { city: 'Rome' } }] })
    const { data, response } = await openai.chat.completions
      .create({ ...request, verbosity: 'low', stream }, lossy('tool_choice, verbosity'))
      .withResponse()
    if (stream) for await (const _ of data as AsyncIterable<unknown>);
    else
      expect((data as OpenAI.ChatCompletion).choices[0]).toMatchObject({
        finish_reason: 'tool_calls',
        message: { tool_calls: [{ type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } }] },
      })
    expect(response.headers.get('x-sluice-lost')).toBe('tool_choice, verbosity')
    expect(stack.upstream.count()).toBe(1)
  })

  it('is not permitted by the name of another', async () => {
    const error = await openai.chat.completions
      .create({ ...request }, lossy('verbosity'))
      .catch((error: unknown) => error)
    expect(error).toMatchObject({ status: 400, param: 'tool_choice' })
  })

  it('names nothing if nothing is lost', async () => {
    const { response } = await openai.chat.completions
      .create({ ...request, tool_choice: 'auto' }, lossy('true'))
      .withResponse()
    expect(response.headers.has('x-sluice-lost')).toBe(false)
  })
})

describe('an image for a provider that takes no URLs', () => {
  const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
  let images: Receiver
  beforeAll(async () => {
    images = await startReceiver()
  })
  afterAll(() => images.close())
  const look = (url: string) =>
    openai.chat.completions.create({
      model: 'ollama/llama3.2',
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What is this?' },
            { type: 'image_url', image_url: { url } },
          ],
        },
      ],
    })

  it('is fetched', async () => {
    images.answers(response => response.writeHead(200).end(Buffer.from(PNG, 'base64')))
    await look(`${images.url}/a.png`)
    expect(stack.upstream.calls[0]!.body).toMatchObject({ messages: [{ content: 'What is this?', images: [PNG] }] })
  })

  it.each([
    ['cannot be reached', () => 'https://10.0.0.1/a.png'],
    ['is none', () => images.url],
  ])('that %s is refused by name, and nothing is spent', async (_, url) => {
    images.answers(response => response.writeHead(200).end('<html>'))
    const attempts = await stack.sql('SELECT count(*) FROM attempts')
    const error = await look(url()).catch((error: unknown) => error)
    expect(error).toMatchObject({
      status: 400,
      code: 'invalid_image_url',
      param: 'messages[0].content[1]',
      message: expect.stringContaining(url()),
    })
    expect(stack.upstream.count()).toBe(0)
    expect(await stack.sql('SELECT count(*) FROM attempts')).toEqual(attempts)
  })
})

describe('a model that the server calls unable', () => {
  it('is refused with the part and the models that can, before any call', async () => {
    stack.upstream.capabilities(['completion'])
    stack.upstream.models(['llama3.2', 'small'])
    const image_url = { url: 'data:image/png;base64,iVBORw0KGgo=' }
    const error = await openai.chat.completions
      .create({ model: 'ollama/small', messages: [{ role: 'user', content: [{ type: 'image_url', image_url }] }] })
      .catch((error: unknown) => error)
    stack.upstream.capabilities(null)
    expect(error).toMatchObject({
      status: 400,
      code: 'unsupported_parameter',
      param: 'messages[0].content[0]',
      message: expect.stringMatching(/ollama\/small reads no images\. Models that support it: ollama\/llama3\.2/),
    })
    expect(stack.upstream.count()).toBe(0)
  })
})

describe('a task of the kind generate', () => {
  const tools = [TOOL]

  it('has the calls of its tools as its result, which the next task answers', async () => {
    stack.upstream.script({ text: 'One moment.', toolCalls: [{ name: 'weather', arguments: { city: 'Rome' } }] })
    const asked = [{ role: 'user', content: 'Weather?' }]
    const first = await stack.finished({ input: { messages: asked, tools, stop: ['END'] } })
    expect(first).toMatchObject({
      status: 'succeeded',
      finish_reason: 'tool_calls',
      result: { text: 'One moment.', finish_reason: 'tool_calls', tool_calls: [{ function: { name: 'weather' } }] },
    })
    const { tool_calls } = first.result
    const messages = [
      ...asked,
      { role: 'assistant', content: first.result.text, tool_calls },
      { role: 'tool', tool_call_id: tool_calls[0].id, content: 'Sunny' },
    ]
    stack.upstream.script({ text: 'It is sunny.' })
    const second = await stack.finished({ input: { messages, tools } })
    expect(second.result).toEqual({ text: 'It is sunny.', tool_calls: [], finish_reason: 'stop' })
    expect(stack.upstream.calls.map(one => one.body)).toMatchObject([
      { options: { stop: ['END'] }, tools },
      {
        messages: [
          {},
          { tool_calls: [{ function: { arguments: { city: 'Rome' } } }] },
          { role: 'tool', tool_name: 'weather' },
        ],
      },
    ])
  })

  it('is refused if its model cannot honour it', async () => {
    const { status, body } = await stack.submit({ input: { prompt: 'Weather?', tools, tool_choice: 'required' } })
    expect(status).toBe(422)
    expect(body).toMatchObject({ code: 'unsupported_parameter', context: { field: '/input/tool_choice' } })
    const content = [
      { type: 'text', text: 'Hear' },
      { type: 'input_audio', input_audio: { data: 'AAAA', format: 'wav' } },
    ]
    const other = await stack.submit({ input: { messages: [{ role: 'user', content }] } })
    expect(other.body).toMatchObject({
      code: 'unsupported_parameter',
      detail: expect.stringContaining('messages[0].content[1]'),
      context: { field: '/input/messages/0/content/1' },
    })
  })
})

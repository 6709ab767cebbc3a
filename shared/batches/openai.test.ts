import type { ChatCompletionCreateParamsNonStreaming } from 'openai/resources/chat/completions'
import type { ResponseCreateParamsNonStreaming } from 'openai/resources/responses/responses'
import { describe, expect, it } from 'vitest'
import { jobs } from '#shared/jobs/index.ts'
import { endpointProblem } from './endpoints/index.ts'
import { openAiReader, rejectedError } from './openai.ts'
import { isProblem, type ParsedLine } from './read-lines.ts'

function readBody(endpoint: string, body: unknown): ParsedLine {
  const read = openAiReader({
    surface: 'openai',
    endpoint,
    kind: null,
    mapping: null,
    options: {},
    jobs,
    isKnownModel: model => ['m', 'ollama/llama3.2:3b'].includes(model),
  })
  const found = read({ line: 1, text: JSON.stringify({ custom_id: 'a', method: 'POST', url: endpoint, body }) })
  if (isProblem(found)) throw new Error(found.message)
  return found
}
const CHAT = '/v1/chat/completions'
const RESPONSES = '/v1/responses'
const rejection = (endpoint: string, body: Record<string, unknown>) => {
  const { rejected, input, options } = readBody(endpoint, body)
  if (rejected) expect([input, options]).toEqual([{}, {}])
  return rejected && [rejected.status, rejected.error.code, rejected.error.param]
}

const user = { role: 'user', content: 'Hi' } as const
const schema = { type: 'object', properties: { n: { type: 'integer' } } }

describe('a chat completion', () => {
  const asked = (body: Partial<ChatCompletionCreateParamsNonStreaming>) =>
    readBody(CHAT, { model: 'm', messages: [user], ...body })

  it('becomes a `generate` conversation that only a model answers', () => {
    expect(asked({})).toEqual({
      line: 1,
      customId: 'a',
      kind: 'generate',
      input: { messages: [user] },
      options: { model: 'm', on_budget: 'fallback', cache: 'off', fallback: 'none', refusals: 'result' },
    })
  })

  it('joins instructions, parts and consecutive turns of one role', () => {
    const { input } = asked({
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'developer', content: [{ type: 'text', text: 'Be kind.' }] },
        { role: 'system', content: '' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'a' },
            { type: 'text', text: 'b' },
          ],
        },
        { role: 'user', content: 'c' },
        { role: 'assistant', content: 'd', refusal: null, tool_calls: [] },
        { role: 'user', content: 'e' },
      ],
    })
    expect(input).toEqual({
      system: 'Be brief.\n\nBe kind.',
      messages: [
        { role: 'user', content: 'a\nb\n\nc' },
        { role: 'assistant', content: 'd' },
        { role: 'user', content: 'e' },
      ],
    })
  })

  it.each<[string, Partial<ChatCompletionCreateParamsNonStreaming>, object]>([
    ['max_tokens', { max_tokens: 5 }, { max_tokens: 5 }],
    ['max_completion_tokens', { max_completion_tokens: 5, max_tokens: null }, { max_tokens: 5 }],
    ['temperature', { temperature: 0 }, { temperature: 0 }],
    ['a model of another provider', { model: 'ollama/llama3.2:3b' }, { model: 'ollama/llama3.2:3b' }],
  ])('may contain %s', (_, body, options) => {
    expect(asked(body).options).toMatchObject(options)
  })

  it.each<[string, ChatCompletionCreateParamsNonStreaming['response_format'], unknown]>([
    ['text', { type: 'text' }, undefined],
    ['any object', { type: 'json_object' }, { type: 'object' }],
    ['a schema', { type: 'json_schema', json_schema: { name: 'x', schema, strict: true } }, schema],
    ['a schema that is not said', { type: 'json_schema', json_schema: { name: 'x' } }, { type: 'object' }],
  ])('may request %s', (_, response_format, expected) => {
    expect(asked({ response_format: response_format! }).input).toEqual({
      messages: [user],
      ...(expected !== undefined && { schema: expected }),
    })
  })

  it('may contain fields that do not change the answer', () => {
    const { rejected, input, options } = asked({
      user: 'u',
      metadata: { a: 'b' },
      store: true,
      seed: 1,
      service_tier: 'flex',
      safety_identifier: 's',
      prompt_cache_key: 'k',
      n: 1,
      top_p: 1,
      stream: false,
      stop: null,
      stream_options: null,
      tools: [],
      tool_choice: 'auto',
      parallel_tool_calls: false,
      logprobs: false,
      frequency_penalty: 0,
      presence_penalty: 0,
      logit_bias: {},
      modalities: ['text'],
      verbosity: 'medium',
      reasoning_effort: null,
    })
    expect(rejected).toBeUndefined()
    expect({ input, options }).toEqual({ input: asked({}).input, options: asked({}).options })
  })

  it.each<[string, unknown, string, string?]>([
    ['tools', [{ type: 'function', function: { name: 'f' } }], 'unsupported_parameter'],
    ['tool_choice', 'required', 'unsupported_parameter'],
    ['n', 2, 'unsupported_parameter'],
    ['logprobs', true, 'unsupported_parameter'],
    ['top_logprobs', 3, 'unsupported_parameter'],
    ['stop', ['\n'], 'unsupported_parameter'],
    ['stop', '\n', 'unsupported_parameter'],
    ['top_p', 0.5, 'unsupported_parameter'],
    ['presence_penalty', 1, 'unsupported_parameter'],
    ['logit_bias', { 50256: -100 }, 'unsupported_parameter'],
    ['audio', { voice: 'alloy', format: 'mp3' }, 'unsupported_parameter'],
    ['modalities', ['text', 'audio'], 'unsupported_parameter'],
    ['reasoning_effort', 'high', 'unsupported_parameter'],
    ['web_search_options', {}, 'unsupported_parameter'],
    ['temprature', 1, 'unknown_parameter'],
    ['constructor', 1, 'unknown_parameter'],
    ['temperature', 9, 'invalid_value'],
    ['temperature', '1', 'invalid_type'],
    ['max_tokens', 0, 'invalid_value', 'max_completion_tokens'],
    ['max_completion_tokens', 1.5, 'invalid_type'],
    ['model', null, 'missing_required_parameter'],
    ['model', 7, 'invalid_type'],
    ['model', 'x'.repeat(201), 'string_above_max_length'],
    ['messages', [], 'invalid_value'],
    ['messages', null, 'invalid_value'],
    ['messages', 'Hi', 'invalid_value'],
    ['messages', ['Hi'], 'invalid_type', 'messages[0]'],
    ['messages', [{ role: 'tool', content: 'x', tool_call_id: 'a' }], 'invalid_value', 'messages[0].role'],
    ['messages', [{ role: 'toString', content: 'x' }], 'invalid_value', 'messages[0].role'],
    ['messages', [user, { role: 'assistant', content: 'x' }], 'invalid_value'],
    ['messages', [{ role: 'system', content: 'x' }], 'invalid_value'],
    ['messages', [user, { ...user, content: '' }], 'invalid_value', 'messages[1].content'],
    ['messages', [{ ...user, content: null }], 'invalid_type', 'messages[0].content'],
    ['messages', [{ ...user, name: 'Ann' }], 'unsupported_parameter', 'messages[0].name'],
    [
      'messages',
      [{ ...user, content: [{ type: 'image_url', image_url: { url: 'x' } }] }],
      'unsupported_value',
      'messages[0].content[0].type',
    ],
    ['messages', [{ ...user, content: [{ type: 'text' }] }], 'invalid_type', 'messages[0].content[0].text'],
    ['messages', [{ ...user, content: 'x'.repeat(1_000_001) }], 'string_above_max_length'],
    ['messages', [{ ...user, content: 'a\0' }], 'invalid_value', 'messages[0].content'],
    ['response_format', { type: 'xml' }, 'invalid_value', 'response_format.type'],
    ['response_format', { type: 'json_schema' }, 'missing_required_parameter', 'response_format.json_schema'],
    [
      'response_format',
      { type: 'json_schema', json_schema: { schema: { type: 'text' } } },
      'invalid_value',
      'response_format.json_schema.schema',
    ],
  ])('is rejected with 400 if it contains %s: %j', (field, value, code, param = field) => {
    expect(rejection(CHAT, { model: 'm', messages: [user], [field]: value })).toEqual([400, code, param])
  })

  it('is rejected if two limits differ', () => {
    expect(rejection(CHAT, { model: 'm', messages: [user], max_tokens: 1, max_completion_tokens: 2 })).toEqual([
      400,
      'invalid_value',
      'max_tokens',
    ])
    expect(rejection(CHAT, { model: 'm', messages: [user], max_tokens: 2, max_completion_tokens: 2 })).toBeUndefined()
  })

  it('is rejected with 404 if no provider has its model', () => {
    const { rejected } = readBody(CHAT, { model: 'gpt-9', messages: [user] })
    expect(rejected).toEqual({
      status: 404,
      error: {
        message: "The model 'gpt-9' does not exist or is not available here. No configured provider has it.",
        type: 'invalid_request_error',
        param: 'model',
        code: 'model_not_found',
      },
    })
    expect(rejectedError(rejected!)).toEqual({
      code: 'invalid_request',
      message: expect.stringMatching(/gpt-9/),
      context: { status: 404, type: 'invalid_request_error', param: 'model', code: 'model_not_found' },
    })
  })
})

describe('a response', () => {
  const asked = (body: Partial<ResponseCreateParamsNonStreaming>) =>
    readBody(RESPONSES, { model: 'm', input: 'Hi', ...body })

  it('becomes a `generate` conversation', () => {
    expect(asked({ instructions: 'Be brief.', max_output_tokens: 5, temperature: 1 })).toMatchObject({
      kind: 'generate',
      input: { system: 'Be brief.', messages: [user] },
      options: { model: 'm', max_tokens: 5, temperature: 1, cache: 'off', fallback: 'none' },
    })
    expect(
      asked({
        instructions: null,
        input: [
          { role: 'developer', content: 'Be brief.' },
          { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'a' }] },
          {
            type: 'message',
            role: 'assistant',
            id: 'msg_1',
            status: 'completed',
            content: [{ type: 'output_text', text: 'b', annotations: [] }],
          },
          { role: 'user', content: 'c' },
        ],
      }).input,
    ).toEqual({
      system: 'Be brief.',
      messages: [
        { role: 'user', content: 'a' },
        { role: 'assistant', content: 'b' },
        { role: 'user', content: 'c' },
      ],
    })
  })

  it('may request a schema', () => {
    const text = { format: { type: 'json_schema', name: 'x', schema, strict: true }, verbosity: 'medium' } as const
    expect(asked({ text }).input).toEqual({ messages: [user], schema })
    expect(asked({ text: { format: { type: 'json_object' } } }).input).toMatchObject({ schema: { type: 'object' } })
    expect(asked({ text: {} }).input).toEqual({ messages: [user] })
  })

  it.each<[string, unknown, string, string?]>([
    ['input', undefined, 'invalid_value'],
    ['input', '', 'invalid_value', 'input.content'],
    ['input', [{ type: 'item_reference', id: 'x' }], 'unsupported_value', 'input[0].type'],
    [
      'input',
      [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }],
      'unsupported_value',
      'input[0].content[0].type',
    ],
    ['instructions', 7, 'invalid_type'],
    ['tools', [{ type: 'web_search' }], 'unsupported_parameter'],
    ['previous_response_id', 'resp_1', 'unsupported_parameter'],
    ['background', true, 'unsupported_parameter'],
    ['reasoning', { effort: 'high' }, 'unsupported_parameter'],
    ['truncation', 'auto', 'unsupported_parameter'],
    ['include', ['message.output_text.logprobs'], 'unsupported_parameter'],
    ['text', { verbosity: 'low' }, 'unsupported_parameter', 'text.verbosity'],
    [
      'text',
      { format: { type: 'json_schema', name: 'x', schema: { type: 'text' } } },
      'invalid_value',
      'text.format.schema',
    ],
    ['max_output_tokens', '5', 'invalid_type'],
    ['messages', [user], 'unknown_parameter'],
  ])('is rejected with 400 if it contains %s: %j', (field, value, code, param = field) => {
    expect(rejection(RESPONSES, { model: 'm', input: 'Hi', [field]: value })).toEqual([400, code, param])
  })
})

describe('the endpoints', () => {
  it('with a kind are served; for the others the error gives the reason', () => {
    expect(endpointProblem(CHAT, jobs)).toBeNull()
    expect(endpointProblem(RESPONSES, jobs)).toBeNull()
    expect(endpointProblem('/v1/embeddings', jobs)).toBeNull()
    expect(endpointProblem('/v1/completions', jobs)).toBe(
      "'/v1/completions' is not served here yet. Served are /v1/chat/completions, /v1/embeddings, /v1/moderations, /v1/responses.",
    )
    expect(endpointProblem('/v1/images', jobs)).toMatch(/is no endpoint of a batch/)
    expect(endpointProblem(CHAT, new Map())).toMatch(/not served/)
  })
})

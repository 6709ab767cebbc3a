import { describe, expect, it } from 'vitest'
import { isFault } from '../wire.ts'
import { openAiResponses } from './index.ts'

const parsed = (body: Record<string, unknown>) => {
  const read = openAiResponses.parse({ model: 'gpt-5.4', ...body })
  if (isFault(read)) throw new Error(JSON.stringify(read))
  return read
}
const faultOf = (body: Record<string, unknown>) => {
  const read = openAiResponses.parse({ model: 'gpt-5.4', input: 'Hi', ...body })
  return isFault(read) ? [read.code, read.param] : null
}

describe('a request of the responses API', () => {
  it('may be a text', () => {
    expect(parsed({ input: 'Hi', instructions: 'Be brief.', max_output_tokens: 100, stream: true })).toMatchObject({
      request: { system: 'Be brief.', messages: [{ role: 'user', content: 'Hi' }] },
      model: 'gpt-5.4',
      maxTokens: 100,
      stream: true,
      untranslated: [],
    })
  })

  it('carries turns, calls, results and reasoning', () => {
    const { request, untranslated } = parsed({
      input: [
        { role: 'developer', content: 'Be brief.' },
        {
          role: 'user',
          content: [
            { type: 'input_text', text: 'What is this?' },
            { type: 'input_image', image_url: 'data:image/png;base64,AAAA', detail: 'low' },
            { type: 'input_image', image_url: 'https://example.com/a.png' },
            { type: 'input_file', file_data: 'data:application/pdf;base64,AAAA', filename: 'a.pdf' },
          ],
        },
        { type: 'reasoning', id: 'rs_1', summary: [{ type: 'summary_text', text: 'Hm.' }] },
        { type: 'reasoning', id: 'rs_2', summary: [], encrypted_content: 'of OpenAI' },
        { type: 'message', role: 'assistant', id: 'msg_1', content: [{ type: 'output_text', text: 'Let me look.' }] },
        { type: 'function_call', call_id: 'call_1', name: 'look', arguments: '{"at":1}', id: 'fc_1' },
        { type: 'function_call', call_id: 'call_2', name: 'look', arguments: '' },
        { type: 'function_call_output', call_id: 'call_1', output: 'A cat.' },
        {
          type: 'function_call_output',
          call_id: 'call_2',
          output: [{ type: 'input_image', image_url: 'https://example.com/b.png' }],
        },
        { role: 'system', content: 'Answer now.' },
      ],
    })
    expect(untranslated).toEqual([])
    expect(request.system).toBe('Be brief.')
    expect(request.messages).toEqual([
      {
        role: 'user',
        content: [
          { type: 'text', text: 'What is this?' },
          { type: 'image', source: { kind: 'base64', mediaType: 'image/png', data: 'AAAA' }, detail: 'low' },
          { type: 'image', source: { kind: 'url', url: 'https://example.com/a.png' } },
          {
            type: 'document',
            source: { kind: 'base64', mediaType: 'application/pdf', data: 'AAAA' },
            title: 'a.pdf',
          },
        ],
      },
      {
        role: 'assistant',
        content: [
          { type: 'thinking', text: 'Hm.' },
          { type: 'text', text: 'Let me look.' },
          { type: 'tool_call', id: 'call_1', name: 'look', arguments: '{"at":1}' },
          { type: 'tool_call', id: 'call_2', name: 'look', arguments: '{}' },
        ],
      },
      {
        role: 'user',
        content: [
          { type: 'tool_result', id: 'call_1', content: 'A cat.' },
          {
            type: 'tool_result',
            id: 'call_2',
            content: [{ type: 'image', source: { kind: 'url', url: 'https://example.com/b.png' } }],
          },
        ],
      },
      { role: 'system', content: 'Answer now.' },
    ])
  })

  it('carries tools, choice, format, effort and sampling', () => {
    const tool = { type: 'function', name: 'look', parameters: { type: 'object' }, strict: true, description: 'Looks.' }
    const other = { type: 'function', name: 'go', parameters: null }
    const { request } = parsed({
      input: 'Hi',
      tools: [tool, other],
      tool_choice: { type: 'function', name: 'look' },
      parallel_tool_calls: false,
      text: { format: { type: 'json_schema', name: 'a', schema: { type: 'object' } }, verbosity: 'low' },
      reasoning: { effort: 'low', summary: 'auto' },
      temperature: 0.5,
      top_p: 0.9,
      safety_identifier: 'user-1',
      user: 'user-2',
    })
    expect(request).toMatchObject({
      tools: [{ name: 'look', description: 'Looks.', parameters: { type: 'object' }, strict: true }, { name: 'go' }],
      toolChoice: { name: 'look' },
      parallelToolCalls: false,
      schema: { type: 'object' },
      verbosity: 'low',
      effort: 'low',
      sampling: { temperature: 0.5, topP: 0.9 },
      user: 'user-1',
    })
    const allowed = { type: 'allowed_tools', mode: 'required', tools: [{ type: 'function', name: 'go' }] }
    expect(parsed({ input: 'Hi', tools: [tool, other], tool_choice: allowed }).request).toMatchObject({
      tools: [{ name: 'go' }],
      toolChoice: 'required',
    })
  })

  it('names the fields that only OpenAI can honour', () => {
    expect(
      parsed({
        input: [
          { role: 'user', content: 'Hi' },
          { type: 'item_reference', id: 'msg_1' },
        ],
        tools: [{ type: 'web_search' }, { type: 'function', name: 'f', defer_loading: true }],
        include: ['message.output_text.logprobs'],
        prompt: { id: 'p' },
        reasoning: { mode: 'x' },
        new_field: 1,
        top_logprobs: 0,
        context_management: [],
        metadata: { a: 'b' },
        store: false,
      }).untranslated,
    ).toEqual(['include', 'prompt', 'new_field', 'input[1]', 'tools[0]', 'tools[1].defer_loading', 'reasoning.mode'])
  })

  it.each<[Record<string, unknown>, string, string]>([
    [{ input: undefined }, 'missing_required_parameter', 'input'],
    [{ input: '' }, 'invalid_value', 'input'],
    [{ input: [] }, 'invalid_value', 'input'],
    [{ input: 7 }, 'invalid_type', 'input'],
    [{ input: [7] }, 'invalid_type', 'input[0]'],
    [{ input: [{ content: 'a' }] }, 'missing_required_parameter', 'input[0].role'],
    [{ input: [{ role: 'tool', content: 'a' }] }, 'invalid_value', 'input[0].role'],
    [{ input: [{ role: 'user', content: [{ type: 'text' }] }] }, 'invalid_value', 'input[0].content[0].type'],
    [
      { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'data:x' }] }] },
      'invalid_value',
      'input[0].content[0].image_url',
    ],
    [{ input: [{ type: 'function_call', name: 'f' }] }, 'missing_required_parameter', 'input[0].call_id'],
    [{ instructions: 7 }, 'invalid_type', 'instructions'],
    [{ temperature: 3 }, 'decimal_above_max_value', 'temperature'],
    [{ max_output_tokens: 3 }, 'integer_below_min_value', 'max_output_tokens'],
    [{ max_output_tokens: '5' }, 'invalid_type', 'max_output_tokens'],
    [{ tools: [{ type: 'function', name: 'a b' }] }, 'invalid_value', 'tools[0].name'],
    [{ tool_choice: { type: 'function', name: 'f' } }, 'invalid_value', 'tool_choice.name'],
    [{ text: { format: { type: 'json_schema', name: 'a' } } }, 'missing_required_parameter', 'text.format.schema'],
    [{ background: true, store: false }, 'invalid_value', 'background'],
    [{ metadata: { a: 1 } }, 'invalid_type', 'metadata.a'],
  ])('%j is refused: %s, naming %s', (body, code, param) => {
    expect(faultOf(body)).toEqual([code, param])
  })
})

describe('a request for a provider with this wire format', () => {
  const outgoing = { model: 'gpt-5.4-2026', maxTokens: 5 }
  const changed = { model: 'gpt-5.4-2026', max_output_tokens: 16, stream: true }

  it('is the body of the client, without what this server resolves', () => {
    const kept = { instructions: 'Be brief.', tools: [{ type: 'web_search' }], new_field: { a: 1 }, input: 'Hi' }
    const body = { ...kept, model: 'alias', background: true, previous_response_id: 'resp_1', conversation: 'conv_1' }
    const { request } = parsed(body)
    expect(openAiResponses.render({ ...request, ...outgoing }, { stream: true })).toEqual({ ...kept, ...changed })
  })

  it('survives a translation there and back', () => {
    const input = [
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello' },
      { type: 'function_call', call_id: 'c', name: 'f', arguments: '{}' },
      { type: 'function_call_output', call_id: 'c', output: [{ type: 'input_text', text: 'x' }] },
    ]
    const tools = [{ type: 'function', name: 'f', parameters: { type: 'object' }, strict: true }]
    const { original, ...request } = parsed({
      input,
      tools,
      tool_choice: 'required',
      reasoning: { effort: 'low' },
    }).request
    const rendered = openAiResponses.render({ ...request, ...outgoing }, { stream: false })
    expect(parsed(rendered).request).toEqual({ ...request, original: expect.anything() })
  })
})

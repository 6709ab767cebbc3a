import { describe, expect, it } from 'vitest'
import type { ChatAnswer } from '#shared/requests/answer.ts'
import type { AssistantPart } from '#shared/requests/request.ts'
import { generate } from './generate.ts'

const TOOLS = [{ type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }]
const CALL = { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } }
const PNG = 'iVBORw0KGgo='

const build = (input: object) => generate.prompts[1]!(input)
const answer = (parts: AssistantPart[], finishReason: ChatAnswer['finishReason'] = 'tool_calls'): ChatAnswer => ({
  parts,
  finishReason,
  usage: null,
  model: 'm',
})

describe('the input', () => {
  it('may have parts, tools, calls and their results', () => {
    const input = {
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What is this?' },
            { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG}` } },
            { type: 'file', file: { filename: 'a.pdf', file_data: `data:application/pdf;base64,${PNG}` } },
          ],
        },
        { role: 'assistant', content: null, tool_calls: [CALL] },
        { role: 'tool', tool_call_id: 'call_1', content: 'Sunny' },
      ],
      system: 'Be brief',
      tools: TOOLS,
      tool_choice: { type: 'function', function: { name: 'weather' } },
      stop: 'END',
      reasoning_effort: 'low',
    }
    expect(generate.validate(input)).toBeNull()
    expect(build(input)).toEqual({
      system: 'Be brief',
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: 'What is this?' },
            { type: 'image', source: { kind: 'base64', mediaType: 'image/png', data: PNG } },
            {
              type: 'document',
              title: 'a.pdf',
              source: { kind: 'base64', mediaType: 'application/pdf', data: PNG },
            },
          ],
        },
        {
          role: 'assistant',
          content: [{ type: 'tool_call', id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' }],
        },
        { role: 'user', content: [{ type: 'tool_result', id: 'call_1', content: 'Sunny' }] },
      ],
      tools: [{ name: 'weather', parameters: { type: 'object', properties: {} } }],
      toolChoice: { name: 'weather' },
      stop: ['END'],
      effort: 'low',
    })
  })

  it.each<[string, object, string]>([
    [
      'a tool with an invalid schema',
      { prompt: 'a', tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'array' } } }] },
      '/input/tools/0/function/parameters',
    ],
    ['two tools of one name', { prompt: 'a', tools: [...TOOLS, ...TOOLS] }, '/input/tools/1/function/name'],
    [
      'a choice without such a tool',
      { prompt: 'a', tools: TOOLS, tool_choice: { type: 'function', function: { name: 'g' } } },
      '/input/tool_choice',
    ],
    ['an unknown choice', { prompt: 'a', tools: TOOLS, tool_choice: 'always' }, '/input/tool_choice'],
    ['a choice of another type', { prompt: 'a', tools: TOOLS, tool_choice: { type: 'custom' } }, '/input/tool_choice'],
    [
      'a result without its call',
      { messages: [{ role: 'tool', tool_call_id: 'x', content: 'a' }] },
      '/input/messages/0/tool_call_id',
    ],
    [
      'a malformed data URL',
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'data:image/png,x' } }] }] },
      '/input/messages/0/content/0/image_url/url',
    ],
    ['a user without content', { messages: [{ role: 'user', content: null }] }, '/input/messages/0/content'],
    [
      'an assistant at the end',
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
      '/input/messages/1/role',
    ],
  ])('is refused with the field: %s', (_, input, field) => {
    expect(generate.validate(input)).toEqual({ field, message: expect.stringMatching(/^[a-z].*[^.]$/) })
  })
})

describe('the result with tools', () => {
  it('has the calls in the notation in which they are sent back', () => {
    const parts: AssistantPart[] = [
      { type: 'text', text: 'One moment.' },
      { type: 'tool_call', id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' },
    ]
    expect(generate.wholeAnswer(answer(parts), { prompt: 'a', tools: TOOLS })).toEqual({
      text: 'One moment.',
      tool_calls: [CALL],
      finish_reason: 'tool_calls',
    })
  })

  it('has an empty list if the model called none', () => {
    const said = answer([{ type: 'text', text: 'Hello' }], 'stop')
    const input = { prompt: 'a', tools: TOOLS }
    expect(generate.wholeAnswer(said, input)).toEqual({ text: 'Hello', tool_calls: [], finish_reason: 'stop' })
    // The check of the schema makes the result.
    expect(generate.wholeAnswer(said, { ...input, schema: { type: 'object' } })).toBeNull()
    expect(generate.wholeAnswer(said, { prompt: 'a' })).toBeNull()
  })
})

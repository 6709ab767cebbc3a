import { describe, expect, it } from 'vitest'
import type { ChatRequest, Message } from '#shared/requests/request.ts'
import { ollamaLosses, toParams } from './ollama-request.ts'

const WINDOW = { size: 4096, maxTokens: 100, mayGrow: false }
const TOOL = { name: 'weather', description: 'Weather of a city', parameters: { type: 'object', properties: {} } }
const TOOLS = [TOOL, { name: 'time' }]
const params = (request: Partial<ChatRequest>, model = 'llama3.2') =>
  toParams({ model, maxTokens: 100, messages: [{ role: 'user', content: 'Hi' }], ...request }, WINDOW)
const rendered = (...messages: Message[]) => params({ messages }).messages

describe('a request to Ollama', () => {
  it('names the tool of a result, and gives arguments as an object', () => {
    expect(
      rendered(
        { role: 'user', content: 'Weather?' },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', text: 'Hm.' },
            { type: 'text', text: 'Let me see.' },
            { type: 'tool_call', id: 'a', name: 'weather', arguments: '{"city":"Rome"}' },
            { type: 'tool_call', id: 'b', name: 'time', arguments: '{}' },
          ],
        },
        {
          role: 'user',
          content: [
            { type: 'tool_result', id: 'b', content: 'Noon' },
            { type: 'tool_result', id: 'a', content: [{ type: 'text', text: 'No such city' }], isError: true },
            { type: 'text', text: 'Go on' },
          ],
        },
      ),
    ).toEqual([
      { role: 'user', content: 'Weather?' },
      {
        role: 'assistant',
        content: 'Let me see.',
        thinking: 'Hm.',
        tool_calls: [
          { function: { name: 'weather', arguments: { city: 'Rome' } } },
          { function: { name: 'time', arguments: {} } },
        ],
      },
      { role: 'tool', content: 'Noon', tool_name: 'time' },
      { role: 'tool', content: 'Error: No such city', tool_name: 'weather' },
      { role: 'user', content: 'Go on' },
    ])
  })

  it.each(['[1]', 'no JSON', '"text"'])('keeps arguments that are no object: %s', written => {
    const [message] = rendered({
      role: 'assistant',
      content: [{ type: 'tool_call', id: 'a', name: 'f', arguments: written }],
    })
    expect(message?.tool_calls?.[0]?.function.arguments).toEqual({ arguments: written })
  })

  it('has images beside the text, those of tool results in a turn of the user', () => {
    const image = (data: string) =>
      ({ type: 'image', source: { kind: 'base64', mediaType: 'image/png', data } }) as const
    expect(
      rendered(
        { role: 'assistant', content: [{ type: 'tool_call', id: 'a', name: 'shot', arguments: '{}' }] },
        {
          role: 'user',
          content: [
            { type: 'tool_result', id: 'a', content: [{ type: 'text', text: 'Done' }, image('one')] },
            { type: 'text', text: 'Compare with' },
            image('two'),
            { type: 'document', title: 'Notes', source: { kind: 'text', text: 'Red' } },
          ],
        },
      ).slice(1),
    ).toEqual([
      { role: 'tool', content: 'Done', tool_name: 'shot' },
      {
        role: 'user',
        content: 'Files in the result of shot:\nCompare with\nNotes\nRed',
        images: ['one', 'two'],
      },
    ])
  })

  it('offers tools with an empty schema if they take no arguments', () => {
    expect(params({ tools: TOOLS }).tools).toEqual([
      { type: 'function', function: TOOL },
      { type: 'function', function: { name: 'time', parameters: { type: 'object', properties: {} } } },
    ])
  })

  it('withholds the tools that the choice excludes', () => {
    expect(params({ tools: TOOLS, toolChoice: 'none' })).not.toHaveProperty('tools')
    const only = params({ tools: TOOLS, toolChoice: { name: 'time' } }).tools
    expect(only?.map(one => one.function.name)).toEqual(['time'])
  })

  it('carries sampling and stop texts as options', () => {
    const sampling = { temperature: 0, topP: 0.5, topK: 4, presencePenalty: 1, frequencyPenalty: -1, seed: 7 }
    expect(params({ sampling, stop: ['END'] }).options).toEqual({
      num_ctx: 4096,
      num_predict: 100,
      temperature: 0,
      top_p: 0.5,
      top_k: 4,
      presence_penalty: 1,
      frequency_penalty: -1,
      seed: 7,
      stop: ['END'],
    })
  })

  it.each<[Partial<ChatRequest>, string, unknown]>([
    [{}, 'qwen3', undefined],
    [{ effort: 'none' }, 'qwen3', false],
    [{ effort: 'minimal' }, 'qwen3', true],
    [{ effort: 'minimal' }, 'gpt-oss:20b', 'low'],
    [{ effort: 'xhigh' }, 'gpt-oss:20b', 'high'],
    [{ thinking: { enabled: true, budgetTokens: 2000 } }, 'qwen3', true],
    [{ thinking: { enabled: false } }, 'qwen3', false],
  ])('thinks as the effort says: %j for %s', (request, model, think) => {
    expect(params(request, model).think).toBe(think)
  })
})

describe('losses', () => {
  const lost = (request: Partial<ChatRequest>) =>
    ollamaLosses({ messages: [{ role: 'user', content: 'Hi' }], ...request })

  it('are none for what the format expresses', () => {
    expect(lost({ tools: TOOLS, toolChoice: 'auto', stop: ['a'], sampling: { topK: 1 }, effort: 'low' })).toEqual([])
  })

  it('name what it cannot express', () => {
    expect(lost({ tools: TOOLS, toolChoice: 'required', parallelToolCalls: false, verbosity: 'low' })).toEqual([
      'toolChoice',
      'parallelToolCalls',
      'verbosity',
    ])
    const content = [
      { type: 'audio', data: '', format: 'wav' },
      { type: 'document', source: { kind: 'base64', mediaType: 'application/pdf', data: '' } },
      { type: 'tool_result', id: 'a', content: [{ type: 'image', source: { kind: 'file', id: 'f' } }] },
    ] as const
    expect(lost({ messages: [{ role: 'user', content: [...content] } as Message] })).toEqual([
      'audio',
      'document',
      'image.file',
    ])
  })
})

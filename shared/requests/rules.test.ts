import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { base64Problem, imageProblem, MAX_IMAGE_BYTES, splitDataUrl } from './media.ts'
import type { RequestFault } from './wire.ts'
import { isFault } from './wire.ts'
import { wireFormat } from './wires.ts'

const chat = (body: object): RequestFault | null => {
  const parsed = wireFormat('openai-chat').parse({ messages: [{ role: 'user', content: 'Hi' }], ...body })
  return isFault(parsed) ? parsed : null
}
const responses = (body: object): RequestFault | null => {
  const parsed = wireFormat('openai-responses').parse({ input: 'Hi', ...body })
  return isFault(parsed) ? parsed : null
}
const tool = (given: object) => ({ type: 'function', function: { name: 'f', ...given } })

describe('tools', () => {
  it.each<[string, object, string]>([
    ['a name with spaces', tool({ name: 'my tool' }), 'tools[0].function.name'],
    ['a name that is too long', tool({ name: 'n'.repeat(129) }), 'tools[0].function.name'],
    ['parameters that are no object', tool({ parameters: { type: 'array' } }), 'tools[0].function.parameters'],
    [
      'an unknown type in the schema',
      tool({ parameters: { type: 'object', properties: { a: { type: 'txt' } } } }),
      'tools[0].function.parameters',
    ],
  ])('are refused with the parameter: %s', (_, given, param) => {
    expect(chat({ tools: [given] })).toMatchObject({ param })
  })

  it('are refused if two have the same name', () => {
    expect(chat({ tools: [tool({}), tool({ name: 'g' }), tool({})] })).toMatchObject({
      param: 'tools[2].function.name',
      message: expect.stringContaining("another tool named 'f'"),
    })
    const flat = { type: 'function', name: 'f' }
    expect(responses({ tools: [flat, flat] })).toMatchObject({ param: 'tools[1].name' })
  })

  it('may use keywords that a provider may or may not know', () => {
    const parameters = {
      $schema: 'http://json-schema.org/draft-07/schema#',
      type: 'object',
      properties: { a: { type: 'string', pattern: '(?=a)b', 'x-hint': 1 } },
    }
    expect(chat({ tools: [tool({ parameters }), tool({ name: 'g', parameters: {} })] })).toBeNull()
  })
})

describe('tool results', () => {
  const user = { role: 'user', content: 'Hi' }
  const calls = (...ids: string[]) => ({
    role: 'assistant',
    content: null,
    tool_calls: ids.map(id => ({ id, type: 'function', function: { name: 'f', arguments: '{}' } })),
  })
  const result = (id: string) => ({ role: 'tool', tool_call_id: id, content: 'Done' })

  it('follow their calls', () => {
    expect(chat({ messages: [user, calls('a', 'b'), result('b'), result('a'), user] })).toBeNull()
  })

  it.each<[string, object[], string]>([
    ['without its call', [user, result('a')], 'messages[1].tool_call_id'],
    ['of another call', [user, calls('a'), result('b')], 'messages[2].tool_call_id'],
    ['given twice', [user, calls('a'), result('a'), result('a')], 'messages[3].tool_call_id'],
    ['missing before the next turn', [user, calls('a', 'b'), result('a'), user], 'messages'],
    ['missing at the end', [user, calls('a')], 'messages'],
  ])('are refused with the parameter: %s', (_, messages, param) => {
    expect(chat({ messages })).toMatchObject({ param })
  })

  it('of the Responses API may belong to an earlier response', () => {
    const input = [{ type: 'function_call_output', call_id: 'a', output: 'Done' }]
    expect(responses({ input })).toMatchObject({ param: 'input', message: expect.stringContaining('call_id a') })
    expect(responses({ input, previous_response_id: 'resp_1' })).toBeNull()
    const call = { type: 'function_call', call_id: 'a', name: 'f', arguments: '{}' }
    expect(responses({ input: [call, ...input] })).toBeNull()
    expect(responses({ input: [call] })).toMatchObject({ param: 'input' })
  })
})

describe('media', () => {
  const image = (url: string) =>
    chat({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }] })

  it.each([
    ['no scheme', 'picture.png'],
    ['another scheme', 'file:///etc/passwd'],
    ['no base64', 'data:image/png,abc'],
    ['letters outside the alphabet', 'data:image/png;base64,a*bc'],
    ['line breaks', 'data:image/png;base64,YWJj\nYWJj'],
    ['the alphabet of URLs', 'data:image/png;base64,-_-_'],
    ['nothing', 'data:image/png;base64,'],
    ['a text', 'data:text/plain;base64,YWJj'],
    ['an SVG', 'data:image/svg+xml;base64,YWJj'],
  ])('names the part that has %s', (_, url) => {
    expect(image(url)).toMatchObject({ param: 'messages[0].content[0].image_url.url' })
    const input = [{ role: 'user', content: [{ type: 'input_image', image_url: url }] }]
    expect(responses({ input })).toMatchObject({ param: 'input[0].content[0].image_url' })
  })

  it('states the limit of an oversized image', () => {
    const data = Buffer.alloc(MAX_IMAGE_BYTES + 1).toString('base64')
    expect(image(`data:image/png;base64,${data}`)?.message).toContain(String(MAX_IMAGE_BYTES))
    const fits = Buffer.alloc(MAX_IMAGE_BYTES).toString('base64')
    expect(imageProblem({ mediaType: 'image/png', data: fits })).toBeNull()
  })

  it('accepts any bytes in base64, with or without padding', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), bytes => {
        const data = Buffer.from(bytes).toString('base64')
        expect(base64Problem(data)).toBeNull()
        expect(base64Problem(data.replace(/=+$/, ''))).toBeNull()
        expect(splitDataUrl(`data:image/png;base64,${data}`)).toEqual({ mediaType: 'image/png', data })
      }),
    )
  })
})

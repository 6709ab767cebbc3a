import fc from 'fast-check'
import { encode } from 'gpt-tokenizer/encoding/cl100k_base'
import { describe, expect, it } from 'vitest'
import { createPrices } from '#shared/models/prices.ts'
import { answersOf, inputTokenBound, outputTokenBound } from './bounds.ts'
import { imageSize } from './image-size.ts'
import { imageTokenBound } from './image-tokens.ts'
import { partsOf } from './parts.ts'
import type { ChatRequest, ImagePart, Message, UserPart } from './request.ts'
import { messageText } from './text.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 300 })
const schema = fc.record({
  type: fc.constant('object'),
  properties: fc.dictionary(text, fc.record({ description: text })),
})
const tool = fc.record({ name: text, description: text, parameters: schema })
const result = fc.record({ type: fc.constant('tool_result' as const), id: text, content: text })
const call = fc.record({ type: fc.constant('tool_call' as const), id: text, name: text, arguments: text })
const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({ role: fc.constantFrom('user' as const, 'assistant' as const, 'system' as const), content: text }),
  fc.record({ role: fc.constant('user' as const), content: fc.array(result) }),
  fc.record({ role: fc.constant('assistant' as const), content: fc.array(call) }),
)
const request: fc.Arbitrary<ChatRequest> = fc.record({
  system: text,
  messages: fc.array(message),
  tools: fc.array(tool),
})

/** Tokens of everything that a request says, by a real tokenizer. */
function tokensOf({ system = '', messages, tools = [] }: ChatRequest): number {
  const calls = partsOf({ messages }).map(one =>
    one.type === 'tool_call' ? one.id + one.name + one.arguments : one.type === 'tool_result' ? one.id : '',
  )
  const said = [system, ...messages.map(messageText), ...calls, ...tools.map(one => JSON.stringify(one))]
  return said.reduce((sum, one) => sum + encode(one, { disallowedSpecial: new Set() }).length, 0)
}

describe('the bound of the input', () => {
  it('is never below the count of a tokenizer, with tools, calls and results', () => {
    fc.assert(
      fc.property(request, one => {
        expect(inputTokenBound(one)).toBeGreaterThanOrEqual(tokensOf(one))
      }),
      { numRuns: 40 },
    )
  })

  it('grows with every part', () => {
    const part: fc.Arbitrary<UserPart> = fc.oneof(
      fc.record({ type: fc.constant('text' as const), text }),
      fc.constant({ type: 'image' as const, source: { kind: 'url' as const, url: 'https://a.example/b.png' } }),
      fc.constant({ type: 'audio' as const, data: 'A'.repeat(4000), format: 'wav' as const }),
      result,
    )
    fc.assert(
      fc.property(fc.array(part), part, (parts, more) => {
        const bound = (content: UserPart[]) => inputTokenBound({ messages: [{ role: 'user', content }] })
        expect(bound([...parts, more])).toBeGreaterThan(bound(parts))
      }),
    )
  })

  it.each<[string, Partial<ChatRequest>]>([
    [
      'a PDF',
      { messages: [{ role: 'user', content: [pdf({ kind: 'base64', mediaType: 'application/pdf', data: 'AA' })] }] },
    ],
    ['a file by its id', { messages: [{ role: 'user', content: [pdf({ kind: 'file', id: 'file_1' })] }] }],
    ['a hosted tool', { untranslated: ['tools[0]'], original: { wire: 'openai-responses', body: {} } }],
  ])('is the context window of the model for content that only the provider can count: %s', (_, more) => {
    const bound = inputTokenBound({ messages: [], ...more }, { provider: 'anthropic', model: 'claude-haiku-4-5' })
    expect(bound).toBe(200_000)
    expect(inputTokenBound({ messages: [], ...more }, { provider: 'vllm', model: 'mine' })).toBeGreaterThan(1_000_000)
  })

  it('counts fields that are only forwarded', () => {
    const body = { messages: [], logit_bias: Object.fromEntries(Array.from({ length: 99 }, (_, i) => [i, 1])) }
    const bound = inputTokenBound({
      messages: [],
      untranslated: ['logit_bias'],
      original: { wire: 'openai-chat', body },
    })
    expect(bound).toBeGreaterThan(inputTokenBound({ messages: [] }) + JSON.stringify(body).length)
    expect(bound).toBeLessThan(5000)
  })
})

function pdf(source: Extract<UserPart, { type: 'document' }>['source']): UserPart {
  return { type: 'document', source }
}

/** The first bytes of a PNG. */
function png(width: number, height: number): ImagePart {
  const head = Buffer.alloc(24)
  head.write('\x89PNG\r\n\x1a\n', 'latin1')
  head.writeUInt32BE(width, 16)
  head.writeUInt32BE(height, 20)
  return { type: 'image', source: { kind: 'base64', mediaType: 'image/png', data: head.toString('base64') } }
}

describe('the bound of an image', () => {
  // The examples of the providers' documentation.
  it.each([
    ['openai', 'gpt-4o', 1024, 1024, 765],
    ['openai', 'gpt-4o', 2048, 4096, 1105],
    ['openai', 'gpt-4o-mini', 1024, 1024, 25_501],
    ['openai', 'o1', 1024, 1024, 675],
    ['openai', 'gpt-4.1-mini', 1024, 1024, 1659],
    ['openai', 'gpt-4.1-mini', 1800, 2400, 2353],
    ['anthropic', 'claude-haiku-4-5', 200, 200, 54],
    ['anthropic', 'claude-haiku-4-5', 1000, 1000, 1334],
    ['anthropic', 'claude-haiku-4-5', 1092, 1092, 1590],
    ['google', 'gemini-2.5-flash', 384, 384, 258],
    ['ollama', 'llama3.2-vision', 1120, 1120, 6404],
  ])('covers the documented count: %s/%s, %i x %i', (provider, model, width, height, documented) => {
    const bound = imageTokenBound(png(width, height), { provider, model })
    expect(bound).toBeGreaterThanOrEqual(documented)
    expect(bound).toBeLessThanOrEqual(documented * 10)
  })

  it('is the maximum of the model if the size is unknown, and of all models without a target', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(
          'openai/gpt-4o',
          'openai/gpt-6',
          'anthropic/claude-opus-5-5',
          'ollama/x',
          'google/gemini-3-pro',
        ),
        fc.integer({ min: 1, max: 8000 }),
        fc.integer({ min: 1, max: 8000 }),
        (name, width, height) => {
          const [provider, model] = name.split('/') as [string, string]
          const unknown: ImagePart = { type: 'image', source: { kind: 'url', url: 'https://a.example/b.png' } }
          const most = imageTokenBound(unknown, { provider, model })
          expect(imageTokenBound(png(width, height), { provider, model })).toBeLessThanOrEqual(most)
          expect(most).toBeLessThanOrEqual(imageTokenBound(unknown, undefined))
        },
      ),
    )
  })

  it.each([
    ['GIF', Buffer.from([...Buffer.from('GIF89a'), 0x20, 0x03, 0x58, 0x02])],
    ['JPEG', Buffer.from('ffd8ffe000104a46494600010100000100010000ffc000110802580320030122000211', 'hex')],
    ['lossless WebP', Buffer.from('5249464600000000574542505650384c000000002f1fc3950000000000000000', 'hex')],
    [
      'extended WebP',
      Buffer.from('52494646000000005745425056503858 0a000000 00000000 1f0300 570200'.replaceAll(' ', ''), 'hex'),
    ],
  ])('reads the size of a %s', (_, head) => {
    expect(imageSize(head.toString('base64'))).toEqual({ width: 800, height: 600 })
  })

  it('reads no size from anything else', () => {
    fc.assert(
      fc.property(fc.uint8Array(), bytes => {
        expect(imageSize(Buffer.from(bytes).toString('base64'))).toBeNull()
      }),
    )
  })
})

describe('the bound of the output', () => {
  const asking = (body: Record<string, unknown>): ChatRequest => ({
    messages: [],
    original: { wire: 'openai-chat', body },
  })

  it('covers every answer of a call, and a rejected prediction', () => {
    expect(outputTokenBound({ messages: [] }, 100)).toBe(100)
    expect(outputTokenBound(asking({ n: 4 }), 100)).toBe(400)
    expect(
      outputTokenBound(asking({ prediction: { type: 'content', content: 'x'.repeat(500) } }), 100),
    ).toBeGreaterThan(600)
  })

  it.each([null, 0, 1, 1.5, 'two'])('counts one answer for n = %s', n => {
    expect(answersOf(asking({ n }))).toBe(1)
  })

  it('covers the cost of any usage that the bounds allow', () => {
    const prices = createPrices()
    fc.assert(
      fc.property(
        request,
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 4000 }),
        fc.constantFrom('openai/gpt-4o-mini', 'anthropic/claude-haiku-5-5'),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (one, n, maxTokens, name, share) => {
          const [provider, model] = name.split('/') as [string, string]
          const asked = { ...one, ...asking({ n }), messages: one.messages }
          const most = {
            inputTokens: inputTokenBound(asked, { provider, model }),
            outputTokens: outputTokenBound(asked, maxTokens),
          }
          const inputTokens = Math.max(tokensOf(one), Math.floor(most.inputTokens * share))
          const written = Math.floor(inputTokens * share)
          const usage = { inputTokens, outputTokens: n * maxTokens, cacheReadTokens: 0, cacheWriteTokens: written }
          const bound = prices.worstCaseOf(provider, model, most)
          expect(Number(prices.costOf(provider, model, usage))).toBeLessThanOrEqual(Number(bound))
        },
      ),
      { numRuns: 40 },
    )
  })
})

import Anthropic from '@anthropic-ai/sdk'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ChatAnswer, StreamEvent } from '../answer.ts'
import type { AssistantPart, ChatRequest, UserPart } from '../request.ts'
import { type AnswerContext, isFault } from '../wire.ts'
import { anthropicMessages } from './index.ts'

const context: AnswerContext = {
  id: '019a9f0c5d7e7cc2a1b2c3d4e5f60718',
  created: 1_700_000_000,
  body: { model: 'claude-haiku-4-5' },
}

const words = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 })
const names = fc.stringMatching(/^[a-zA-Z0-9_-]{1,20}$/)
const objects = fc.dictionary(names, fc.oneof(words, fc.integer(), fc.boolean(), fc.constant(null)), { maxKeys: 3 })
const texts = fc.record({ type: fc.constant('text' as const), text: words })
const calls = fc.record({
  type: fc.constant('tool_call' as const),
  id: names,
  name: names,
  arguments: objects.map(one => JSON.stringify(one)),
})
const parts: fc.Arbitrary<AssistantPart> = fc.oneof(
  texts,
  calls,
  fc.record({ type: fc.constant('thinking' as const), text: words, signature: words }),
  fc.record({ type: fc.constant('redacted_thinking' as const), data: words }),
)
const answers: fc.Arbitrary<ChatAnswer> = fc.record({
  parts: fc.array(parts, { maxLength: 5 }),
  finishReason: fc.constantFrom('stop', 'length', 'tool_calls', 'refusal'),
  usage: fc
    .record({ read: fc.nat(99), write: fc.nat(99), fresh: fc.nat(99), outputTokens: fc.nat(99) })
    .map(({ read, write, fresh, outputTokens }) => ({
      inputTokens: read + write + fresh,
      outputTokens,
      cacheReadTokens: read,
      cacheWriteTokens: write,
    })),
  model: fc.constant('claude-haiku-4-5'),
})

const cut = (text: string, size: number): string[] => {
  const units = [...text]
  return Array.from({ length: Math.ceil(units.length / size) }, (_, i) =>
    units.slice(i * size, (i + 1) * size).join(''),
  )
}

/** The pieces of an answer, each of at most `size` characters. */
const eventsOf = (answer: ChatAnswer, size: number): StreamEvent[] =>
  answer.parts.flatMap((one, part): StreamEvent[] => {
    if (one.type === 'redacted_thinking') return [{ type: one.type, part, data: one.data }]
    if (one.type === 'tool_call')
      return [
        { type: 'tool_call', part, id: one.id, name: one.name },
        ...cut(one.arguments, size).map(delta => ({ type: 'tool_arguments' as const, part, delta })),
      ]
    const deltas = cut(one.text, size).map(delta => ({ type: one.type, part, delta }))
    if (one.type !== 'thinking' || one.signature === undefined) return deltas
    return [...deltas, { type: 'signature', part, signature: one.signature }]
  })

function streamed(answer: ChatAnswer, size: number): string {
  const renderer = anthropicMessages.renderStream(context)
  return (
    eventsOf(answer, size)
      .map(event => renderer.write(event))
      .join('') + renderer.end(answer)
  )
}

const dataOf = (sse: string): unknown[] =>
  sse
    .split('\n\n')
    .filter(frame => frame !== '')
    .map(frame => JSON.parse(frame.slice(frame.indexOf('data: ') + 6)))

describe('an answer in the format of messages', () => {
  it('reads the same from a stream as from the whole message', () => {
    fc.assert(
      fc.property(answers, fc.integer({ min: 1, max: 5 }), (answer, size) => {
        const whole = anthropicMessages.readAnswer(anthropicMessages.renderAnswer(answer, context))
        const reader = anthropicMessages.readStream()
        for (const event of dataOf(streamed(answer, size))) reader.read(event)
        expect(whole).toEqual(answer)
        expect(reader.answer()).toEqual(answer)
      }),
    )
  })

  it('is the same message to the SDK, streamed or whole', async () => {
    await fc.assert(
      fc.asyncProperty(answers, fc.integer({ min: 1, max: 5 }), async (answer, size) => {
        const sse = streamed(answer, size)
        const client = new Anthropic({
          apiKey: 'none',
          maxRetries: 0,
          fetch: async () => new Response(sse, { headers: { 'content-type': 'text/event-stream' } }),
        })
        const message = await client.messages
          .stream({ model: 'claude-haiku-4-5', max_tokens: 100, messages: [{ role: 'user', content: 'Hi' }] })
          .finalMessage()
        const { content, stop_reason, usage } = anthropicMessages.renderAnswer(answer, context)
        expect({ content: message.content, stop_reason: message.stop_reason }).toEqual({ content, stop_reason })
        expect(message.usage).toMatchObject(usage as object)
      }),
      { numRuns: 30 },
    )
  })
})

const userParts: fc.Arbitrary<UserPart> = fc.oneof(
  texts,
  fc.record({
    type: fc.constant('image' as const),
    source: fc.record({ kind: fc.constant('url' as const), url: fc.webUrl() }),
  }),
  fc.record({
    type: fc.constant('document' as const),
    source: fc.record({ kind: fc.constant('text' as const), text: words }),
    title: words,
  }),
)
/** A call and its result, so that the conversation is valid. */
const toolTurns = fc.tuple(calls, words, fc.boolean()).map(([call, content, failed]): ChatRequest['messages'] => [
  { role: 'assistant', content: [call] },
  { role: 'user', content: [{ type: 'tool_result', id: call.id, content, ...(failed && { isError: true }) }] },
])
const requests: fc.Arbitrary<ChatRequest> = fc.record(
  {
    system: words,
    messages: fc
      .array(
        fc.oneof(
          fc.array(userParts, { minLength: 1, maxLength: 3 }).map(content => [{ role: 'user' as const, content }]),
          words.map(content => [{ role: 'user' as const, content }]),
          toolTurns,
        ),
        { minLength: 1, maxLength: 4 },
      )
      .map(turns => turns.flat()),
    tools: fc.uniqueArray(
      fc.record({
        name: names,
        description: words,
        parameters: fc.constant({ type: 'object', properties: { at: { type: 'integer' } } }),
      }),
      { minLength: 1, maxLength: 3, selector: one => one.name },
    ),
    stop: fc.array(words, { minLength: 1, maxLength: 4 }),
    effort: fc.constantFrom('low', 'medium', 'high', 'xhigh', 'max'),
    schema: fc.constant({ type: 'object', properties: {} }),
    user: words,
  },
  { requiredKeys: ['messages'] },
)

describe('a request in the format of messages', () => {
  it('keeps everything that losses() does not name', () => {
    fc.assert(
      fc.property(requests, request => {
        expect(anthropicMessages.losses(request)).toEqual([])
        const body = anthropicMessages.render({ ...request, model: 'm', maxTokens: 100 }, { stream: false })
        const read = anthropicMessages.parse(body)
        if (isFault(read)) throw new Error(JSON.stringify(read))
        const { original, ...kept } = read.request
        expect(kept).toEqual(request)
        expect({ original, untranslated: read.untranslated, maxTokens: read.maxTokens }).toEqual({
          original: { wire: 'anthropic-messages', body },
          untranslated: [],
          maxTokens: 100,
        })
      }),
    )
  })
})

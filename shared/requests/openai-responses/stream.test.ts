import OpenAI from 'openai'
import type { ResponseStreamEvent } from 'openai/resources/responses/responses'
import { describe, expect, it } from 'vitest'
import { addToParts, type ChatAnswer, type StreamEvent, textOfParts } from '../answer.ts'
import type { AnswerContext } from '../wire.ts'
import { openAiResponses } from './index.ts'
import { answerEvents, renderRepeatableStream } from './stream.ts'

const ID = '019a9f0c5d7e7cc2a1b2c3d4e5f60718'
const contextOf = (body: Record<string, unknown> = {}): AnswerContext => ({
  id: ID,
  created: 1_700_000_000,
  body: { model: 'gpt-5.4', input: 'Hi', ...body },
})

/** An answer and its events, in pieces of some characters. */
function answerOf(parts: ChatAnswer['parts'], finishReason: ChatAnswer['finishReason'] = 'stop', size = 3) {
  const events = parts.flatMap((part, i): StreamEvent[] => {
    const cut = (text: string) => text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? []
    switch (part.type) {
      case 'tool_call':
        return [
          { type: 'tool_call', part: i, id: part.id, name: part.name },
          ...cut(part.arguments).map(delta => ({ type: 'tool_arguments' as const, part: i, delta })),
        ]
      case 'redacted_thinking':
        return [{ type: 'redacted_thinking', part: i, data: part.data }]
      default: {
        const deltas = cut(part.text).map(delta => ({ type: part.type, part: i, delta }))
        if (part.type !== 'thinking' || part.signature === undefined) return deltas
        return [...deltas, { type: 'signature', part: i, signature: part.signature }]
      }
    }
  })
  const answer: ChatAnswer = {
    parts,
    finishReason,
    model: 'claude-haiku-4-5',
    usage: { inputTokens: 9, outputTokens: 5, cacheReadTokens: 4, cacheWriteTokens: 1, reasoningTokens: 2 },
  }
  return { answer, events }
}

const RICH = answerOf(
  [
    { type: 'thinking', text: 'Let me think about this for a good while.', signature: 'sig' },
    { type: 'redacted_thinking', data: 'hidden' },
    { type: 'text', text: 'I will look. A text that is long enough to be written in more than one piece. 🙂' },
    { type: 'tool_call', id: 'call_1', name: 'look', arguments: '{"at":[1,2,3]}' },
    { type: 'tool_call', id: 'call_2', name: 'go', arguments: '{}' },
  ],
  'tool_calls',
)

/** A client of the official SDK whose server answers with these events. */
const clientOf = (sse: string) =>
  new OpenAI({
    apiKey: 'none',
    maxRetries: 0,
    fetch: async () => new Response(sse, { headers: { 'content-type': 'text/event-stream' } }),
  })
const readAll = (sse: string): ResponseStreamEvent[] =>
  sse
    .split('\n\n')
    .filter(frame => frame !== '')
    .map(frame => JSON.parse(frame.slice(frame.indexOf('data: ') + 6)))
const streamed = ({ answer, events }: ReturnType<typeof answerOf>, context = contextOf()) => {
  const renderer = openAiResponses.renderStream(context)
  return events.map(event => renderer.write(event)).join('') + renderer.end(answer)
}

describe('a stream of the responses API', () => {
  it('is accepted by the helper of the SDK, which ends with the whole answer', async () => {
    const helper = clientOf(streamed(RICH)).responses.stream({ model: 'gpt-5.4', input: 'Hi' })
    const final = await helper.finalResponse()
    const whole = openAiResponses.renderAnswer(RICH.answer, contextOf())
    expect(final).toMatchObject({ id: `resp_${ID}`, status: 'completed', usage: whole.usage })
    expect(final.output_text).toBe(textOfParts(RICH.answer.parts))
    expect(final.output.map(item => item.type)).toEqual([
      'reasoning',
      'reasoning',
      'message',
      'function_call',
      'function_call',
    ])
    expect(final.output[3]).toMatchObject({ call_id: 'call_1', name: 'look', arguments: '{"at":[1,2,3]}' })
  })

  it('numbers its events from 0 and writes those of a text in OpenAI’s order', () => {
    const events = readAll(streamed(answerOf([{ type: 'text', text: 'abcdef' }])))
    expect(events.map(one => one.sequence_number)).toEqual(events.map((_, i) => i))
    expect(events.map(one => one.type.replace('response.', ''))).toEqual([
      'created',
      'in_progress',
      'output_item.added',
      'content_part.added',
      'output_text.delta',
      'output_text.delta',
      'output_text.done',
      'content_part.done',
      'output_item.done',
      'completed',
    ])
    expect(events[2]).toMatchObject({
      output_index: 0,
      item: { id: `msg_${ID}0000`, status: 'in_progress', content: [] },
    })
    expect(events[8]).toMatchObject({ item: { status: 'completed', content: [{ text: 'abcdef' }] } })
  })

  it('of a truncated answer ends with response.incomplete', () => {
    const last = readAll(streamed(answerOf([{ type: 'text', text: 'abc' }], 'length'))).at(-1)
    expect(last).toMatchObject({
      type: 'response.incomplete',
      response: { status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } },
    })
  })

  it('that fails ends with an error that the SDK throws', async () => {
    const renderer = openAiResponses.renderStream(contextOf())
    const sse =
      renderer.write({ type: 'text', part: 0, delta: 'Hel' }) +
      renderer.fail({ code: 'server_error', message: 'The provider failed.' })
    const stream = await clientOf(sse).responses.create({ model: 'gpt-5.4', input: 'Hi', stream: true })
    const iterating = (async () => {
      for await (const _ of stream);
    })()
    await expect(iterating).rejects.toMatchObject({ code: 'server_error' })
  })

  it('of a provider with this wire format is passed on with the id of this server', () => {
    const renderer = openAiResponses.renderStream(contextOf({ previous_response_id: 'resp_1' }))
    const event = { type: 'response.created', sequence_number: 0, response: { id: 'resp_of_openai', new_field: 1 } }
    const [own] = readAll(renderer.write({ type: 'original', event }))
    expect(own).toMatchObject({
      sequence_number: 0,
      response: { id: `resp_${ID}`, new_field: 1, previous_response_id: 'resp_1' },
    })
    expect(renderer.end(RICH.answer)).toBe('')
  })
})

describe('the stream of a background response', () => {
  const context = contextOf({ background: true })

  it.each([1, 7, 1000])('has the same events when it is written again, whatever the pieces (%i characters)', size => {
    const { events } = answerOf(RICH.answer.parts, 'tool_calls', size)
    const renderer = renderRepeatableStream(context)
    const live = renderer.begin() + events.map(event => renderer.write(event)).join('') + renderer.end(RICH.answer)
    expect(readAll(live)).toEqual(readAll(answerEvents(RICH.answer, context).join('')))
  })

  it('has response.queued, and the helper of the SDK resumes it', async () => {
    const frames = answerEvents(RICH.answer, context)
    expect(frames.slice(0, 3).map(one => one.split('\n')[0])).toEqual([
      'event: response.created',
      'event: response.queued',
      'event: response.in_progress',
    ])
    const resumed: number[] = []
    const helper = clientOf(frames.join('')).responses.stream({ response_id: `resp_${ID}`, starting_after: 4 })
    for await (const event of helper) resumed.push(event.sequence_number)
    expect(resumed[0]).toBe(5)
    expect((await helper.finalResponse()).output).toHaveLength(5)
  })
})

describe('a stream of a provider', () => {
  it('is read into the parts of its answer', () => {
    const reader = openAiResponses.readStream()
    const parts: ChatAnswer['parts'] = []
    for (const event of readAll(streamed(RICH)))
      for (const piece of reader.read(event)) if (piece.type !== 'original') addToParts(parts, piece)
    const answer = reader.answer()
    expect(parts).toEqual(answer.parts)
    expect(answer).toMatchObject({ finishReason: 'tool_calls', usage: RICH.answer.usage, model: 'claude-haiku-4-5' })
    expect(answer.parts.map(part => part.type)).toEqual(['thinking', 'text', 'tool_call', 'tool_call'])
  })

  it('that ends early is a failed connection', () => {
    const reader = openAiResponses.readStream()
    reader.read({ type: 'response.created', response: {} })
    expect(() => reader.answer()).toThrow(expect.objectContaining({ kind: 'connection' }))
  })
})

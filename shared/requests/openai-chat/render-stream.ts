import type { ChatAnswer, StreamEvent } from '../answer.ts'
import type { AnswerContext, StreamRenderer } from '../wire.ts'
import { completionId, renderAnswer, renderReason, usesFunctions } from './render-answer.ts'
import { renderUsage } from './usage.ts'

type Fields = Record<string, unknown>

const DONE = 'data: [DONE]\n\n'
const sse = (data: Fields): string => `data: ${JSON.stringify(data)}\n\n`

/**
 * Renders the chunks of one completion. The model of translated chunks is the one that the client named, because the answering model is
 * known only at the end.
 */
export function renderStream(context: AnswerContext): StreamRenderer {
  const { created, body } = context
  const id = completionId(context)
  const older = usesFunctions(context)
  const includesUsage = Object(body.stream_options).include_usage === true
  const base = { id, object: 'chat.completion.chunk', created, model: body.model }
  const noUsage = includesUsage ? { usage: null } : {}
  // The text around a delta, because one call of stringify per chunk is most of its cost.
  const head = `data: ${JSON.stringify(base).slice(0, -1)},"choices":[{"index":0,"delta":`
  const tail = `,"logprobs":null,"finish_reason":null}]${includesUsage ? ',"usage":null' : ''}}\n\n`
  const chunk = (delta: Fields) => `${head}${JSON.stringify(delta)}${tail}`

  let begun = false
  let refused = false
  /** Indexes of tool calls, by part. */
  const calls = new Map<number, number>()

  function write(event: StreamEvent): string {
    if (event.type === 'original') return writeOriginal(event.event)
    const delta = deltaOf(event)
    if (!delta) return ''
    const first = begun ? '' : chunk({ role: 'assistant', content: '', refusal: null })
    begun = true
    return first + chunk(delta)
  }

  function writeOriginal(event: Fields): string {
    begun = true
    if (includesUsage) return sse({ ...event, id })
    const { usage, ...rest } = event
    const isOfUsage = Boolean(usage) && Array.isArray(rest.choices) && rest.choices.length === 0
    return isOfUsage ? '' : sse({ ...rest, id })
  }

  /** @returns null: the format does not show it */
  function deltaOf(event: Exclude<StreamEvent, { type: 'original' }>): Fields | null {
    switch (event.type) {
      case 'text':
        return { content: event.delta }
      case 'refusal':
        refused = true
        return { refusal: event.delta }
      case 'tool_call': {
        const index = calls.size
        calls.set(event.part, index)
        const called = { name: event.name, arguments: '' }
        if (older) return index === 0 ? { function_call: called } : null
        return { tool_calls: [{ index, id: event.id, type: 'function', function: called }] }
      }
      case 'tool_arguments': {
        const index = calls.get(event.part) ?? 0
        const called = { arguments: event.delta }
        if (older) return index === 0 ? { function_call: called } : null
        return { tool_calls: [{ index, function: called }] }
      }
      default:
        return null
    }
  }

  function end(answer: ChatAnswer): string {
    if (!begun) return replay(renderAnswer(answer, context)) + DONE
    if (answer.original?.wire === 'openai-chat') return DONE
    const finish_reason = renderReason(answer, { isShown: refused, older })
    const last = { ...base, choices: [{ index: 0, delta: {}, logprobs: null, finish_reason }], ...noUsage }
    return sse(last) + usageChunk(answer.usage && renderUsage(answer.usage)) + DONE
  }

  const usageChunk = (usage: unknown): string => (includesUsage && usage ? sse({ ...base, choices: [], usage }) : '')

  /** A completion that was not streamed, or was streamed to another client, as chunks. */
  function replay(completion: Fields): string {
    const { choices, usage, object: _, ...rest } = completion as Fields & { choices: Choice[] }
    const chunks = choices.flatMap(({ index, message, finish_reason, logprobs = null }) => {
      const tool_calls = message.tool_calls?.map((call, i) => ({ index: i, ...call }))
      const delta = { ...message, ...(tool_calls && { tool_calls }) }
      return [
        { index, delta, logprobs, finish_reason: null },
        { index, delta: {}, logprobs: null, finish_reason },
      ]
    })
    const common = { ...rest, object: base.object }
    return chunks.map(one => sse({ ...common, choices: [one], ...noUsage })).join('') + usageChunk(usage)
  }

  return {
    write,
    end,
    // No [DONE]: the client must not take the part that it has for the answer.
    fail: ({ code, message }) => sse({ error: { message, type: 'server_error', param: null, code } }),
  }
}

type Choice = {
  index: number
  message: Fields & { tool_calls?: Fields[] }
  finish_reason: unknown
  logprobs?: unknown
}

import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'
import { CallFailure } from '#shared/providers/define.ts'
import { failureOfBody } from '#shared/providers/failures.ts'
import type { ChatAnswer, StreamEvent } from '../answer.ts'
import { type Fields, isFields } from '../openai-fields.ts'
import type { AssistantPart } from '../request.ts'
import type { StreamReader } from '../wire.ts'

/** Reads a response object. @throws CallFailure: it failed, or has no output */
export function readAnswer(body: unknown): ChatAnswer {
  if (!isFields(body)) throw new CallFailure('bad_response', 'The answer is no response object')
  const usage = readUsage(body.usage)
  if (body.error) throw failureOfBody(body.error, usage)
  if (!Array.isArray(body.output)) throw new CallFailure('bad_response', 'The response has no output', { usage })
  const parts = (body.output as unknown[]).flatMap(item => (isFields(item) ? readItem(item) : []))
  return {
    parts,
    finishReason: finishReasonOf(body, parts),
    usage,
    model: String(body.model ?? ''),
    original: { wire: 'openai-responses', body },
  }
}

const texts = (value: unknown): Fields[] => (Array.isArray(value) ? value.filter(isFields) : [])

/** Items of hosted tools have no neutral form. */
function readItem(item: Fields): AssistantPart[] {
  switch (item.type) {
    case 'message':
      return texts(item.content).map(part =>
        part.type === 'refusal'
          ? { type: 'refusal', text: String(part.refusal ?? '') }
          : { type: 'text', text: String(part.text ?? '') },
      )
    case 'function_call':
      return [
        {
          type: 'tool_call',
          id: String(item.call_id ?? ''),
          name: String(item.name ?? ''),
          arguments: String(item.arguments ?? '') || '{}',
        },
      ]
    case 'reasoning': {
      const text = [...texts(item.content), ...texts(item.summary)].map(part => String(part.text ?? '')).join('\n\n')
      return text === '' ? [] : [{ type: 'thinking', text }]
    }
    default:
      return []
  }
}

function finishReasonOf(body: Fields, parts: readonly AssistantPart[]): FinishReason {
  if (body.status === 'incomplete') {
    const { reason } = isFields(body.incomplete_details) ? body.incomplete_details : {}
    return reason === 'content_filter' ? 'content_filter' : reason === 'max_output_tokens' ? 'length' : 'other'
  }
  if (parts.some(part => part.type === 'tool_call')) return 'tool_calls'
  return parts.some(part => part.type === 'refusal') ? 'refusal' : 'stop'
}

const count = (value: unknown): number =>
  typeof value === 'number' && Number.isFinite(value) && value > 0 ? Math.round(value) : 0

/** @returns null: counts that the price needs are missing */
function readUsage(usage: unknown): TokenUsage | null {
  if (!isFields(usage) || typeof usage.input_tokens !== 'number' || typeof usage.output_tokens !== 'number') return null
  const input = isFields(usage.input_tokens_details) ? usage.input_tokens_details : {}
  const output = isFields(usage.output_tokens_details) ? usage.output_tokens_details : {}
  const inputTokens = count(usage.input_tokens)
  const cacheReadTokens = Math.min(inputTokens, count(input.cached_tokens))
  return {
    inputTokens,
    outputTokens: count(usage.output_tokens),
    cacheReadTokens,
    cacheWriteTokens: Math.min(inputTokens - cacheReadTokens, count(input.cache_write_tokens)),
    ...(typeof output.reasoning_tokens === 'number' && { reasoningTokens: count(output.reasoning_tokens) }),
  }
}

const ENDS = new Set(['response.completed', 'response.incomplete', 'response.failed'])

/** Reads the events of a stream. */
export function readStream(): StreamReader {
  let end: Fields | null = null
  /** Neutral parts by their place in the response. */
  const parts = new Map<string, number>()
  const partAt = (...place: unknown[]): number => {
    const key = place.join('/')
    const part = parts.get(key) ?? parts.size
    parts.set(key, part)
    return part
  }

  function read(event: unknown): StreamEvent[] {
    if (!isFields(event)) throw new CallFailure('bad_response', 'An event is no object')
    if (event.type === 'error') throw failureOfBody(event, usage())
    if (ENDS.has(String(event.type)) && isFields(event.response)) end = event.response
    const { output_index: at, content_index: content, summary_index: summary, item } = event
    const delta = String(event.delta ?? '')
    switch (event.type) {
      case 'response.output_text.delta':
        return [{ type: 'text', part: partAt(at, content), delta }]
      case 'response.refusal.delta':
        return [{ type: 'refusal', part: partAt(at, content), delta }]
      case 'response.reasoning_text.delta':
        return [{ type: 'thinking', part: partAt(at, 'content', content), delta }]
      case 'response.reasoning_summary_text.delta':
        return [{ type: 'thinking', part: partAt(at, 'summary', summary), delta }]
      case 'response.function_call_arguments.delta':
        return [{ type: 'tool_arguments', part: partAt(at), delta }]
      case 'response.output_item.added':
        if (!isFields(item) || item.type !== 'function_call') return []
        return [{ type: 'tool_call', part: partAt(at), id: String(item.call_id), name: String(item.name) }]
      default:
        return []
    }
  }

  const usage = () => (end ? readUsage(end.usage) : null)
  return {
    read,
    usage,
    answer() {
      if (!end) throw new CallFailure('connection', 'The stream ended before the answer did')
      return readAnswer(end)
    },
  }
}

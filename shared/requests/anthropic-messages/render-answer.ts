import type { ChatAnswer } from '../answer.ts'
import type { Fields } from '../openai-fields.ts'
import type { AssistantPart } from '../request.ts'
import type { AnswerContext } from '../wire.ts'
import { renderCall } from './render.ts'
import { renderUsage } from './usage.ts'

export const messageId = ({ id }: Pick<AnswerContext, 'id'>): string => `msg_${id}`

export function renderAnswer(answer: ChatAnswer, context: AnswerContext): Fields {
  const id = messageId(context)
  if (answer.original?.wire === 'anthropic-messages') return { ...answer.original.body, id }
  return {
    ...emptyMessage(id, answer.model),
    content: answer.parts.flatMap(renderPart),
    ...renderStop(answer),
    usage: renderUsage(answer.usage),
  }
}

/** A message at its beginning. */
export const emptyMessage = (id: string, model: string): Fields => ({
  id,
  type: 'message',
  role: 'assistant',
  model,
  content: [],
  stop_reason: null,
  stop_sequence: null,
  stop_details: null,
  container: null,
  diagnostics: null,
  usage: renderUsage(null),
})

function renderPart(part: AssistantPart): Fields[] {
  switch (part.type) {
    case 'text':
    case 'refusal':
      return part.text === '' ? [] : [{ type: 'text', text: part.text, citations: null }]
    case 'thinking':
      return [{ type: 'thinking', thinking: part.text, signature: part.signature ?? '' }]
    case 'redacted_thinking':
      return [{ type: 'redacted_thinking', data: part.data }]
    case 'tool_call':
      return [{ ...renderCall(part), caller: { type: 'direct' } }]
  }
}

const STOP_REASONS = {
  stop: 'end_turn',
  length: 'max_tokens',
  content_filter: 'refusal',
  refusal: 'refusal',
  tool_calls: 'tool_use',
  other: 'end_turn',
}

export function renderStop({ finishReason, stopSequence }: ChatAnswer): Fields {
  const isAtSequence = finishReason === 'stop' && stopSequence !== undefined
  const reason = isAtSequence ? 'stop_sequence' : STOP_REASONS[finishReason]
  return {
    stop_reason: reason,
    stop_sequence: isAtSequence ? stopSequence : null,
    stop_details: reason === 'refusal' ? { type: 'refusal', category: null, explanation: null } : null,
  }
}

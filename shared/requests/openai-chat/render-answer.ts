import { isRefusal } from '#shared/models/finish-reasons.ts'
import type { ChatAnswer } from '../answer.ts'
import type { AssistantPart } from '../request.ts'
import type { AnswerContext } from '../wire.ts'
import { renderCall } from './render.ts'
import { renderUsage } from './usage.ts'

export const completionId = ({ id }: AnswerContext): string => `chatcmpl-${id}`

/** The client calls tools by the older names `functions` and `function_call`. */
export const usesFunctions = ({ body }: AnswerContext): boolean => Boolean(body.functions) && !body.tools

export function renderAnswer(answer: ChatAnswer, context: AnswerContext): Record<string, unknown> {
  const id = completionId(context)
  if (answer.original?.wire === 'openai-chat') return { ...answer.original.body, id }
  const { message, finish_reason } = renderChoice(answer, usesFunctions(context))
  return {
    id,
    object: 'chat.completion',
    created: context.created,
    model: answer.model,
    choices: [{ index: 0, message, logprobs: null, finish_reason }],
    ...(answer.usage && { usage: renderUsage(answer.usage) }),
  }
}

/** @param older whether calls have the older name `function_call` */
function renderChoice(answer: ChatAnswer, older: boolean) {
  const { parts, finishReason } = answer
  const calls = parts.filter(one => one.type === 'tool_call').map(renderCall)
  const text = textOf(parts, 'text')
  // Only some providers mark the text of a refusal.
  const refused = textOf(parts, 'refusal') || (finishReason === 'refusal' ? text : '')
  return {
    message: {
      role: 'assistant',
      // An answer that was withheld completely is null, not an empty string.
      content: text === '' || text === refused ? null : text,
      refusal: refused || null,
      ...(calls.length > 0 && (older ? { function_call: calls[0]!.function } : { tool_calls: calls })),
    },
    finish_reason: renderReason(answer, { isShown: refused !== '', older }),
  }
}

const textOf = (parts: AssistantPart[], type: 'text' | 'refusal'): string =>
  parts.map(one => (one.type === type ? one.text : '')).join('')

/**
 * OpenAI reports refusals as `stop`, and has no value for undocumented reasons.
 * @param isShown the client gets the refusal as such, and not as content or not at all
 */
export function renderReason({ finishReason }: ChatAnswer, { isShown, older }: { isShown: boolean; older: boolean }) {
  if (finishReason === 'length') return 'length'
  if (finishReason === 'tool_calls') return older ? 'function_call' : 'tool_calls'
  if (finishReason === 'content_filter') return 'content_filter'
  return isRefusal(finishReason) && !isShown ? 'content_filter' : 'stop'
}

import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { CallFailure } from '#shared/providers/define.ts'
import { failureOfBody } from '#shared/providers/failures.ts'
import type { ChatAnswer } from '../answer.ts'
import type { Fields } from '../openai-fields.ts'
import type { AssistantPart } from '../request.ts'
import { readUsage, type WireUsage } from './usage.ts'

type WireMessage = {
  error?: unknown
  content?: unknown
  stop_reason?: string | null
  stop_sequence?: string | null
  usage?: WireUsage | null
  model?: string
}

/** @throws CallFailure */
export function readAnswer(body: unknown): ChatAnswer {
  const message = (body ?? {}) as WireMessage
  if (!Array.isArray(message.content)) {
    throw message.error ? failureOfBody(message.error) : new CallFailure('bad_response', 'The answer is not a message')
  }
  return {
    parts: message.content.flatMap(readBlock),
    finishReason: toFinishReason(message.stop_reason),
    ...(typeof message.stop_sequence === 'string' && { stopSequence: message.stop_sequence }),
    usage: message.usage ? readUsage(message.usage) : null,
    model: message.model ?? '',
  }
}

/** Blocks of Anthropic's own tools have no equivalent. */
function readBlock(block: Fields): AssistantPart[] {
  switch (block?.type) {
    case 'text':
      return [{ type: 'text', text: String(block.text ?? '') }]
    case 'thinking':
      return [
        {
          type: 'thinking',
          text: String(block.thinking ?? ''),
          ...(typeof block.signature === 'string' && { signature: block.signature }),
        },
      ]
    case 'redacted_thinking':
      return [{ type: 'redacted_thinking', data: String(block.data ?? '') }]
    case 'tool_use':
      return [
        {
          type: 'tool_call',
          id: String(block.id),
          name: String(block.name),
          arguments: JSON.stringify(block.input ?? {}),
        },
      ]
    default:
      return []
  }
}

const FINISH_REASONS: Record<string, FinishReason> = {
  end_turn: 'stop',
  stop_sequence: 'stop',
  max_tokens: 'length',
  model_context_window_exceeded: 'length',
  refusal: 'refusal',
  tool_use: 'tool_calls',
}

export const toFinishReason = (reason: string | null | undefined): FinishReason =>
  (reason && FINISH_REASONS[reason]) || 'other'

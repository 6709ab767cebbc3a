import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'
import type { AssistantPart, Original } from './request.ts'

/** The answer of a chat model, independent of the wire format. */
export type ChatAnswer = {
  /** In the order in which the model wrote them. May contain U+0000 and lone surrogates. */
  parts: AssistantPart[]
  finishReason: FinishReason
  /** The stop text at which the answer ended; absent: none, or the provider does not say. */
  stopSequence?: string
  /** null: the provider reported none. */
  usage: TokenUsage | null
  /** The model that answered, as the provider names it. */
  model: string
  /** The provider's answer, if the client speaks its wire format: it receives this answer as it is. */
  original?: Original
}

/**
 * A piece of an answer, as it is written. Parts are numbered from 0 in the order in which they begin; only tool calls begin
 * explicitly. `original` comes instead of all others, if the client speaks the provider's wire format: an event of the provider's
 * stream as it is.
 */
export type StreamEvent =
  | { type: 'text' | 'refusal' | 'thinking'; part: number; delta: string }
  | { type: 'signature'; part: number; signature: string }
  | { type: 'redacted_thinking'; part: number; data: string }
  | { type: 'tool_call'; part: number; id: string; name: string }
  | { type: 'tool_arguments'; part: number; delta: string }
  | { type: 'original'; event: Record<string, unknown> }

/** The text of an answer, without reasoning and tool calls. A refusal is text. */
export const textOfParts = (parts: readonly AssistantPart[]): string =>
  parts.map(part => (part.type === 'text' || part.type === 'refusal' ? part.text : '')).join('')

/** Appends a piece to the parts of an answer. */
export function addToParts(parts: AssistantPart[], event: Exclude<StreamEvent, { type: 'original' }>): void {
  const part = parts[event.part]
  switch (event.type) {
    case 'text':
    case 'refusal':
    case 'thinking':
      if (part?.type === event.type) part.text += event.delta
      else parts[event.part] = { type: event.type, text: event.delta }
      return
    case 'signature':
      if (part?.type === 'thinking') part.signature = (part.signature ?? '') + event.signature
      else parts[event.part] = { type: 'thinking', text: '', signature: event.signature }
      return
    case 'redacted_thinking':
      parts[event.part] = { type: 'redacted_thinking', data: event.data }
      return
    case 'tool_call':
      parts[event.part] = { type: 'tool_call', id: event.id, name: event.name, arguments: '' }
      return
    case 'tool_arguments':
      if (part?.type === 'tool_call') part.arguments += event.delta
  }
}

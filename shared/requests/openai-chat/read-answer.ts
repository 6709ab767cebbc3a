import { randomUUID } from 'node:crypto'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'
import { CallFailure } from '#shared/providers/define.ts'
import { failureOfBody } from '#shared/providers/failures.ts'
import type { ChatAnswer } from '../answer.ts'
import type { AssistantPart, ToolCallPart } from '../request.ts'
import { readUsage, type WireUsage } from './usage.ts'

/** Answers of OpenAI and of compatible servers, which may omit any field. */

type WireCall = {
  id?: string | null
  function?: { name?: string; arguments?: string | null }
  custom?: { name?: string; input?: string }
}
type Completion = {
  error?: unknown
  model?: string
  choices?: { message?: WireMessage; finish_reason?: string | null }[]
  usage?: WireUsage | null
}
type WireMessage = {
  content?: unknown
  refusal?: string | null
  /** Names that DeepSeek, vLLM and others use for the reasoning. */
  reasoning_content?: unknown
  reasoning?: unknown
  tool_calls?: WireCall[] | null
  function_call?: { name?: string; arguments?: string } | null
}

/** @throws CallFailure */
export function readAnswer(body: unknown): ChatAnswer {
  const completion = (body ?? {}) as Completion
  if (completion.error) throw failureOfBody(completion.error)
  const usage = completion.usage ? readUsage(completion.usage) : null
  const choice = completion.choices?.[0]
  if (typeof choice?.message !== 'object') throw new CallFailure('bad_response', 'The answer has no choices', { usage })
  const { content } = choice.message
  if (content && typeof content !== 'string')
    throw new CallFailure('bad_response', 'The content is not text', { usage })
  return finishedAnswer(partsOf(choice.message), choice.finish_reason ?? '', usage, completion.model)
}

function partsOf(message: WireMessage): AssistantPart[] {
  const { refusal, tool_calls, function_call } = message
  const thoughts = reasoningText(message)
  const text = message.content as string | null | undefined
  const calls = [...(tool_calls ?? []), ...(function_call ? [{ function: function_call }] : [])]
  return [
    ...(thoughts ? [{ type: 'thinking' as const, text: thoughts }] : []),
    ...(text ? [{ type: 'text' as const, text }] : []),
    ...(refusal ? [{ type: 'refusal' as const, text: refusal }] : []),
    ...calls.map(readCall),
  ]
}

export function reasoningText({
  reasoning_content,
  reasoning,
}: Pick<WireMessage, 'reasoning_content' | 'reasoning'>): string {
  const text = reasoning_content ?? reasoning
  return typeof text === 'string' ? text : ''
}

/** Some servers give their calls no ids. */
export const newCallId = (): string => `call_${randomUUID().replaceAll('-', '')}`

const readCall = (call: WireCall): ToolCallPart => ({
  type: 'tool_call',
  id: call.id || newCallId(),
  name: call.function?.name ?? call.custom?.name ?? '',
  arguments: call.custom ? JSON.stringify({ input: call.custom.input ?? '' }) : call.function?.arguments || '{}',
})

/** The answer after its last part. @param reason `finish_reason` as the server wrote it */
export function finishedAnswer(
  parts: AssistantPart[],
  reason: string,
  usage: TokenUsage | null,
  model: string | undefined,
): ChatAnswer {
  // DeepSeek's signal, during an answer, that it has no capacity left.
  if (reason === 'insufficient_system_resource')
    throw new CallFailure('overloaded', 'The provider ran out of resources', { usage, begun: true })
  return { parts, finishReason: toFinishReason(reason, parts), usage, model: model ?? '' }
}

/** OpenAI's finish reasons, and those of servers that pass on the reasons of their models. */
const REASONS: readonly [RegExp, FinishReason][] = [
  [/^(stop|eos|eos_token|end_turn|stop_sequence)$/i, 'stop'],
  [/^(length|max_tokens|max_output_tokens|model_length)$/i, 'length'],
  [/^(content_filter|safety|recitation|blocklist|prohibited_content|spii)$/i, 'content_filter'],
  [/^(tool_calls|function_call)$/i, 'tool_calls'],
]

function toFinishReason(reason: string, parts: AssistantPart[]): FinishReason {
  const known = REASONS.find(([pattern]) => pattern.test(reason))?.[1] ?? 'other'
  if (known !== 'stop') return known
  if (parts.some(one => one.type === 'refusal')) return 'refusal'
  // OpenAI says `stop` if the client named the tool, and some servers always do.
  return parts.some(one => one.type === 'tool_call') ? 'tool_calls' : known
}

import type { TokenUsage } from '#shared/models/tokens.ts'
import { CallFailure } from '#shared/providers/define.ts'
import { failureOfBody } from '#shared/providers/failures.ts'
import { addToParts, type StreamEvent } from '../answer.ts'
import type { AssistantPart } from '../request.ts'
import type { StreamReader } from '../wire.ts'
import { finishedAnswer, newCallId, reasoningText } from './read-answer.ts'
import { readUsage, type WireUsage } from './usage.ts'

type CallDelta = {
  index?: number
  id?: string | null
  function?: { name?: string | null; arguments?: string | null }
  custom?: { name?: string; input?: string }
}
type Delta = {
  content?: unknown
  refusal?: string | null
  reasoning_content?: unknown
  reasoning?: unknown
  tool_calls?: CallDelta[] | null
  function_call?: { name?: string; arguments?: string } | null
}
type Chunk = {
  error?: unknown
  model?: string
  choices?: { index?: number; delta?: Delta | null; finish_reason?: string | null }[]
  usage?: WireUsage | null
}
type PartEvent = Exclude<StreamEvent, { type: 'original' }>

/** Reads the chunks of one completion. Of several choices, it reads the first. */
export function readStream(): StreamReader {
  const parts: AssistantPart[] = []
  /** Tool calls by `index`. */
  const calls = new Map<number, { part: number; id: string | null }>()
  /** Choices that have begun and not ended. */
  const open = new Set<number>()
  let model: string | null = null
  let reason: string | null = null
  let usage: TokenUsage | null = null
  let finalUsage: TokenUsage | null = null

  function read(event: unknown): StreamEvent[] {
    const chunk = (event ?? {}) as Chunk
    if (chunk.error) throw failureOfBody(chunk.error, finalUsage)
    if (!Array.isArray(chunk.choices)) throw new CallFailure('bad_response', 'A chunk has no choices')
    model ??= chunk.model ?? ''
    if (chunk.usage) usage = readUsage(chunk.usage)
    const events: StreamEvent[] = []
    const add = (one: PartEvent) => {
      addToParts(parts, one)
      events.push(one)
    }
    for (const { index = 0, delta, finish_reason } of chunk.choices) {
      open.add(index)
      if (index === 0 && delta) readDelta(delta, add)
      if (!finish_reason) continue
      open.delete(index)
      if (index > 0) continue
      reason = finish_reason
      for (const [part, one] of parts.entries())
        if (one.type === 'tool_call' && one.arguments === '') add({ type: 'tool_arguments', part, delta: '{}' })
    }
    // Google sends a growing count in every chunk. The count after the last choice covers the whole answer.
    if (reason && chunk.choices.length === 0) finalUsage = usage
    return events
  }

  function readDelta(delta: Delta, add: (event: PartEvent) => void): void {
    const { content, refusal, tool_calls, function_call } = delta
    const addText = (type: 'text' | 'refusal' | 'thinking', text: string) => {
      const isSame = parts.at(-1)?.type === type
      add({ type, part: isSame ? parts.length - 1 : parts.length, delta: text })
    }
    const thoughts = reasoningText(delta)
    if (thoughts) addText('thinking', thoughts)
    if (content) {
      if (typeof content !== 'string') throw new CallFailure('bad_response', 'The content is not text')
      addText('text', content)
    }
    if (refusal) addText('refusal', refusal)
    for (const call of tool_calls ?? []) readCall(call, add)
    if (function_call) readCall({ function: function_call }, add)
  }

  function readCall(call: CallDelta, add: (event: PartEvent) => void): void {
    const { index = 0, id = null } = call
    const { name, written } = call.custom
      ? { name: call.custom.name, written: call.custom.input }
      : { name: call.function?.name, written: call.function?.arguments }
    let known = calls.get(index)
    // Some servers send whole calls that all have index 0.
    if (!known || (id && name && known.id !== id)) {
      known = { part: parts.length, id }
      calls.set(index, known)
      add({ type: 'tool_call', part: known.part, id: id || newCallId(), name: name ?? '' })
    }
    if (written) add({ type: 'tool_arguments', part: known.part, delta: written })
  }

  return {
    read,
    usage: () => finalUsage,
    answer() {
      if (model === null) throw new CallFailure('bad_response', 'The stream has no completion')
      if (!reason || open.size > 0)
        throw new CallFailure('connection', 'The stream ended before the answer did', { usage: finalUsage })
      return finishedAnswer(parts, reason, usage, model)
    },
  }
}

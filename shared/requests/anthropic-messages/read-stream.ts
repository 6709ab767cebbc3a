import type { TokenUsage } from '#shared/models/tokens.ts'
import { CallFailure } from '#shared/providers/define.ts'
import { failureOfBody } from '#shared/providers/failures.ts'
import { addToParts, type StreamEvent } from '../answer.ts'
import type { Fields } from '../openai-fields.ts'
import type { AssistantPart } from '../request.ts'
import type { StreamReader } from '../wire.ts'
import { toFinishReason } from './read.ts'
import { readUsage, type WireUsage } from './usage.ts'

type PartEvent = Exclude<StreamEvent, { type: 'original' }>
type WireEvent = {
  type?: string
  index?: number
  message?: { model?: string; usage?: WireUsage | null } | null
  content_block?: Fields
  delta?: Fields
  usage?: WireUsage | null
  error?: unknown
}

/** Reads the events of one message. */
export function readStream(): StreamReader {
  const parts: AssistantPart[] = []
  /** Parts by the index of their block. Blocks of Anthropic's own tools have none. */
  const partOf = new Map<number, number>()
  const types = new Map<number, unknown>()
  let model: string | null = null
  let stop: string | null = null
  let stopSequence: string | null = null
  let counts: WireUsage = {}
  let finalUsage: TokenUsage | null = null
  let complete = false

  /** Counts are cumulative. They are null in events that do not repeat them. */
  const count = (more: WireUsage | null | undefined) => {
    counts = { ...counts, ...Object.fromEntries(Object.entries(more ?? {}).filter(([, value]) => value !== null)) }
  }

  function read(given: unknown): StreamEvent[] {
    const event = (given ?? {}) as WireEvent
    const events: StreamEvent[] = []
    const add = (one: PartEvent) => {
      addToParts(parts, one)
      events.push(one)
    }
    switch (event.type) {
      case 'error':
        throw failureOfBody(event.error, finalUsage)
      case 'message_start':
        if (!event.message) throw new CallFailure('bad_response', 'The stream has no message')
        model = event.message.model ?? ''
        count(event.message.usage)
        break
      case 'content_block_start':
        beginBlock(event.index ?? 0, event.content_block ?? {}, add)
        break
      case 'content_block_delta':
        readDelta(event.index ?? 0, event.delta ?? {}, add)
        break
      case 'content_block_stop': {
        const part = partOf.get(event.index ?? 0)
        const one = part === undefined ? undefined : parts[part]
        if (part !== undefined && one?.type === 'tool_call' && one.arguments === '')
          add({ type: 'tool_arguments', part, delta: '{}' })
        break
      }
      case 'message_delta':
        stop = stringOf(event.delta?.stop_reason) ?? stop
        stopSequence = stringOf(event.delta?.stop_sequence) ?? stopSequence
        count(event.usage)
        // The output count of message_start does not cover the rest of the stream.
        if (stop && typeof event.usage?.output_tokens === 'number') finalUsage = readUsage(counts)
        break
      case 'message_stop':
        complete = true
    }
    return events
  }

  /** Texts begin with their first piece. */
  function beginBlock(index: number, block: Fields, add: (event: PartEvent) => void): void {
    types.set(index, block.type)
    const part = parts.length
    if (block.type === 'tool_use') add({ type: 'tool_call', part, id: String(block.id), name: String(block.name) })
    else if (block.type === 'redacted_thinking')
      add({ type: 'redacted_thinking', part, data: String(block.data ?? '') })
    else {
      if (block.type === 'text' || block.type === 'thinking') addText(index, block.type, block[block.type], add)
      return
    }
    partOf.set(index, part)
  }

  function partFor(index: number): number {
    const part = partOf.get(index) ?? parts.length
    partOf.set(index, part)
    return part
  }

  function addText(index: number, type: 'text' | 'thinking', delta: unknown, add: (event: PartEvent) => void): void {
    if (typeof delta === 'string' && delta !== '') add({ type, part: partFor(index), delta })
  }

  function readDelta(index: number, delta: Fields, add: (event: PartEvent) => void): void {
    switch (delta.type) {
      case 'text_delta':
        if ((types.get(index) ?? 'text') === 'text') addText(index, 'text', delta.text, add)
        return
      case 'thinking_delta':
        addText(index, 'thinking', delta.thinking, add)
        return
      case 'signature_delta':
        add({ type: 'signature', part: partFor(index), signature: stringOf(delta.signature) ?? '' })
        return
      case 'input_json_delta': {
        const part = partOf.get(index)
        if (part !== undefined) add({ type: 'tool_arguments', part, delta: stringOf(delta.partial_json) ?? '' })
      }
    }
  }

  return {
    read,
    usage: () => finalUsage,
    answer() {
      if (model === null) throw new CallFailure('bad_response', 'The stream has no message')
      if (!complete)
        throw new CallFailure('connection', 'The stream ended before the message did', { usage: finalUsage })
      return {
        parts,
        finishReason: toFinishReason(stop),
        ...(stopSequence !== null && { stopSequence }),
        usage: finalUsage,
        model,
      }
    },
  }
}

const stringOf = (value: unknown): string | null => (typeof value === 'string' ? value : null)

import type { ChatAnswer, StreamEvent } from '../answer.ts'
import type { Fields } from '../openai-fields.ts'
import type { AnswerContext, StreamRenderer } from '../wire.ts'
import { emptyMessage, messageId, renderAnswer, renderStop } from './render-answer.ts'
import { renderUsage } from './usage.ts'

type PartEvent = Exclude<StreamEvent, { type: 'original' }>

const frame = (data: Fields): string => `event: ${String(data.type)}\ndata: ${JSON.stringify(data)}\n\n`

/** The types of Anthropic's errors, by the code of this server. */
const ERROR_TYPES: Record<string, string> = {
  rate_limited: 'rate_limit_error',
  overloaded: 'overloaded_error',
  deadline_exceeded: 'timeout_error',
}

/**
 * Renders the events of one message. The model of a translated message is the one that the client named, because the answering model is
 * known only at the end.
 */
export function renderStream(context: AnswerContext): StreamRenderer {
  const { body } = context
  const id = messageId(context)
  let begun = false
  /** The part that is being written, and the index of its block. */
  let open: { part: number; index: number } | null = null
  let blocks = 0

  const close = (): string => {
    const index = open?.index
    open = null
    return index === undefined ? '' : frame({ type: 'content_block_stop', index })
  }

  function begin(): string {
    if (begun) return ''
    begun = true
    return frame({ type: 'message_start', message: emptyMessage(id, String(body.model ?? '')) })
  }

  function write(event: StreamEvent): string {
    if (event.type === 'original') return writeOriginal(event.event)
    const isEmpty = 'delta' in event && event.delta === ''
    if (isEmpty && open?.part !== event.part) return ''
    let frames = begin()
    if (open?.part !== event.part) {
      frames += close()
      open = { part: event.part, index: blocks++ }
      frames += frame({ type: 'content_block_start', index: open.index, content_block: emptyBlock(event) })
    }
    const delta = deltaOf(event)
    return delta && !isEmpty ? frames + frame({ type: 'content_block_delta', index: open.index, delta }) : frames
  }

  function writeOriginal(event: Fields): string {
    begun = true
    return frame(event.type === 'message_start' ? { ...event, message: { ...Object(event.message), id } } : event)
  }

  function end(answer: ChatAnswer): string {
    if (!begun) return replay(renderAnswer(answer, context))
    if (answer.original?.wire === 'anthropic-messages') return ''
    return (
      close() +
      frame({ type: 'message_delta', delta: { ...renderStop(answer), container: null }, usage: deltaUsage(answer) }) +
      frame({ type: 'message_stop' })
    )
  }

  /** A message that was not streamed, or was streamed to another client, as events. */
  function replay(message: Fields): string {
    const { content, usage, stop_reason, stop_sequence, stop_details = null, ...rest } = message
    const blocks = (content as Fields[]).map((block, index) => replayBlock(block, index)).join('')
    const counts = Object(usage) as Fields
    return (
      frame({
        type: 'message_start',
        message: { ...rest, content: [], stop_reason: null, stop_sequence: null, stop_details: null, usage },
      }) +
      blocks +
      frame({
        type: 'message_delta',
        delta: { stop_reason, stop_sequence, stop_details, container: message.container ?? null },
        usage: Object.fromEntries(DELTA_COUNTS.map(name => [name, counts[name] ?? null])),
      }) +
      frame({ type: 'message_stop' })
    )
  }

  return {
    write,
    end,
    fail: ({ code, message }) =>
      frame({ type: 'error', error: { type: ERROR_TYPES[code] ?? 'api_error', message }, request_id: null }),
  }
}

/** The counts of `message_delta`. */
const DELTA_COUNTS = [
  'input_tokens',
  'cache_creation_input_tokens',
  'cache_read_input_tokens',
  'output_tokens',
  'output_tokens_details',
  'server_tool_use',
] as const

function deltaUsage({ usage }: ChatAnswer): Fields {
  const counts: Fields = renderUsage(usage)
  return Object.fromEntries(DELTA_COUNTS.map(name => [name, counts[name]]))
}

function emptyBlock(event: PartEvent): Fields {
  switch (event.type) {
    case 'tool_call':
      return { type: 'tool_use', id: event.id, name: event.name, input: {}, caller: { type: 'direct' } }
    case 'redacted_thinking':
      return { type: 'redacted_thinking', data: event.data }
    case 'thinking':
    case 'signature':
      return { type: 'thinking', thinking: '', signature: '' }
    default:
      return { type: 'text', text: '', citations: null }
  }
}

function deltaOf(event: PartEvent): Fields | null {
  switch (event.type) {
    case 'text':
    case 'refusal':
      return { type: 'text_delta', text: event.delta }
    case 'thinking':
      return { type: 'thinking_delta', thinking: event.delta }
    case 'signature':
      return { type: 'signature_delta', signature: event.signature }
    case 'tool_arguments':
      return { type: 'input_json_delta', partial_json: event.delta }
    default:
      return null
  }
}

const EMPTY: Record<string, Fields> = {
  text: { text: '' },
  thinking: { thinking: '', signature: '' },
  tool_use: { input: {} },
}

function replayBlock(block: Fields, index: number): string {
  const deltas: Fields[] =
    block.type === 'text'
      ? [{ type: 'text_delta', text: block.text }]
      : block.type === 'thinking'
        ? [
            { type: 'thinking_delta', thinking: block.thinking },
            { type: 'signature_delta', signature: block.signature },
          ]
        : block.type === 'tool_use'
          ? [{ type: 'input_json_delta', partial_json: JSON.stringify(block.input) }]
          : []
  return (
    frame({ type: 'content_block_start', index, content_block: { ...block, ...EMPTY[String(block.type)] } }) +
    deltas.map(delta => frame({ type: 'content_block_delta', index, delta })).join('') +
    frame({ type: 'content_block_stop', index })
  )
}

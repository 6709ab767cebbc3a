import { addToParts, type ChatAnswer, type StreamEvent } from '../answer.ts'
import { type Fields, isFields } from '../openai-fields.ts'
import type { AssistantPart } from '../request.ts'
import type { AnswerContext, StreamRenderer } from '../wire.ts'
import {
  asOwn,
  type Item,
  itemId,
  itemType,
  newItem,
  outputItems,
  type ResponseStatus,
  renderAnswer,
  responseObject,
} from './answer.ts'
import { createEventWriter, type EventWriter, trackOf } from './events.ts'

export const renderStream = (context: AnswerContext): StreamRenderer => createRenderer(context, { inPieces: false })

/**
 * Renders the stream of a background response. Its events, and so their sequence numbers, are a pure function of the answer: a
 * client that returns later gets the same ones from `answerEvents`.
 */
export const renderRepeatableStream = (context: AnswerContext): StreamRenderer & { begin(): string } =>
  createRenderer(context, { inPieces: true })

/** All events of a response that has an answer; an event's position is its sequence number. */
export function answerEvents(answer: ChatAnswer, context: AnswerContext): string[] {
  const writer = createEventWriter({ inPieces: true })
  writeBeginning(writer, context)
  writeWhole(writer, answer, context)
  return writer.take()
}

/** The events of a response without an answer: those of its beginning and, unless it still runs, of its end. */
export function eventsWithoutAnswer(response: Fields, context: AnswerContext): string[] {
  const writer = createEventWriter({ inPieces: true })
  writeBeginning(writer, context)
  if (response.status === 'failed' || response.status === 'cancelled') writer.write('response.failed', { response })
  return writer.take()
}

function writeBeginning(writer: EventWriter, context: AnswerContext): void {
  const state = (status: ResponseStatus) => ({ response: responseObject(context, { status, output: [] }) })
  const isBackground = context.body.background === true
  writer.write('response.created', state(isBackground ? 'queued' : 'in_progress'))
  if (isBackground) writer.write('response.queued', state('queued'))
  writer.write('response.in_progress', state('in_progress'))
}

function writeWhole(writer: EventWriter, answer: ChatAnswer, context: AnswerContext): void {
  const response = renderAnswer(answer, context)
  for (const [index, item] of (response.output as Item[]).entries()) writer.writeItem(item, index)
  writeEnd(writer, response)
}

const writeEnd = (writer: EventWriter, response: Fields) =>
  writer.write(`response.${response.status === 'incomplete' ? 'incomplete' : 'completed'}`, { response })

function createRenderer(context: AnswerContext, { inPieces }: { inPieces: boolean }) {
  const writer = createEventWriter({ inPieces })
  const parts: AssistantPart[] = []
  let hasBegun = false
  /** The item that is being written, and its newest part. */
  let open: { index: number; part: number } | null = null
  /** Whether the client has received the provider's own events. */
  let passedOn = false

  const items = () => outputItems({ parts, finishReason: 'stop' }, context)
  const taken = () => writer.take().join('')

  function begin(): void {
    if (!hasBegun) writeBeginning(writer, context)
    hasBegun = true
  }

  function finish(item: Item | undefined): void {
    writer.closeTrack()
    if (open && item) writer.finishItem(item, open.index)
    open = null
  }

  /** Makes the part of an event the one that is being written. */
  function enter(event: Exclude<StreamEvent, { type: 'original' }>): void {
    if (open?.part === event.part) return
    const before = open && parts[open.part]
    const isNewPart = parts[event.part] === undefined
    if (!isNewPart) return
    const text = event.type === 'text' || event.type === 'refusal' ? event.type : null
    const written = items()
    if (open && text && before && itemType(before) === 'message') {
      writer.closeTrack()
      const item = written[open.index]!
      open.part = event.part
      writer.openTrack(trackOf(text, item, open.index, (item.content as Fields[]).length))
      return
    }
    finishOpen(written)
    const index = written.length
    const first = emptyPart(event)
    const item = newItem(first, itemId(itemType(first), context.id, index), 'completed')
    open = { index, part: event.part }
    writer.addItem(item, index)
    if (text) writer.openTrack(trackOf(text, item, index))
    else if (first.type === 'tool_call') writer.openTrack(trackOf('arguments', item, index))
  }

  function finishOpen(written: Item[]): void {
    if (!open) return
    const part = parts[open.part]
    // A call without arguments is one with an empty object.
    if (part?.type === 'tool_call' && part.arguments === '') {
      part.arguments = '{}'
      writer.push('{}')
      finish(items()[open.index])
    } else finish(written[open.index])
  }

  return {
    begin(): string {
      begin()
      return taken()
    },
    write(event: StreamEvent): string {
      if (event.type === 'original') return inPieces ? '' : passOn(event.event)
      if ('delta' in event && event.delta === '' && parts[event.part] === undefined) return ''
      begin()
      enter(event)
      addToParts(parts, event)
      if (open?.part !== event.part) return taken()
      if (event.type === 'thinking' && !writer.isTrackOpen())
        writer.openTrack(trackOf('summary', items()[open.index]!, open.index))
      if ('delta' in event) writer.push(event.delta)
      return taken()
    },
    end(answer: ChatAnswer): string {
      if (passedOn) return ''
      begin()
      if (parts.length === 0) writeWhole(writer, answer, context)
      else {
        const response = renderAnswer(answer, context)
        finishOpen(response.output as Item[])
        writeEnd(writer, response)
      }
      return taken()
    },
    fail({ code, message }: { code: string; message: string }): string {
      begin()
      writer.write('error', { code, message, param: null })
      return taken()
    },
  }

  /** The provider's event with this server's id. */
  function passOn(event: Fields): string {
    passedOn = true
    hasBegun = true
    if (typeof event.sequence_number === 'number') writer.continueAfter(event.sequence_number)
    const own = isFields(event.response) ? { ...event, response: asOwn(event.response, context) } : event
    return `event: ${String(event.type)}\ndata: ${JSON.stringify(own)}\n\n`
  }
}

/** The part that an event begins. */
function emptyPart(event: Exclude<StreamEvent, { type: 'original' }>): AssistantPart {
  switch (event.type) {
    case 'tool_call':
      return { type: 'tool_call', id: event.id, name: event.name, arguments: '' }
    case 'tool_arguments':
      return { type: 'tool_call', id: '', name: '', arguments: '' }
    case 'redacted_thinking':
      return { type: 'redacted_thinking', data: '' }
    case 'signature':
      return { type: 'thinking', text: '' }
    default:
      return { type: event.type, text: '' }
  }
}

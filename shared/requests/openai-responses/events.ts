import type { Fields } from '../openai-fields.ts'
import { contentPart, type Item, summaryPart } from './answer.ts'
import { createCutter } from './pieces.ts'

/** A text that is written in deltas: a content part, a summary part or the arguments of a call. */
type Track = {
  /** Events: `<event>.delta` and `<event>.done`. */
  event: string
  /** The field of the done event that holds the whole text. */
  field: string
  /** Where the text is. */
  at: Fields
  /** Further fields of both events. */
  more?: Fields
  /** Further fields of the done event. */
  doneMore?: Fields
  /** The part that the text belongs to; its events are `<event>.added` and `<event>.done`. */
  part?: { event: string; of(text: string): Fields }
}

export type TrackKind = 'text' | 'refusal' | 'arguments' | 'input' | 'summary' | 'reasoning'

/**
 * Writes the events of one response in order, numbered from 0.
 * @param inPieces deltas are cut by their text alone, so that the same response always has the same events
 */
export function createEventWriter({ inPieces }: { inPieces: boolean }) {
  let frames: string[] = []
  let sequence = 0
  let open: { track: Track; text: string; cutter: ReturnType<typeof createCutter> } | null = null

  function write(type: string, fields: Fields): void {
    frames.push(`event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: sequence++, ...fields })}\n\n`)
  }
  const writeDelta = (delta: string, { event, at, more }: Track) => write(`${event}.delta`, { ...at, delta, ...more })

  function openTrack(track: Track): void {
    open = { track, text: '', cutter: createCutter() }
    if (track.part) write(`${track.part.event}.added`, { ...track.at, part: track.part.of('') })
  }

  function push(delta: string): void {
    if (!open) return
    open.text += delta
    for (const piece of inPieces ? open.cutter.add(delta) : [delta]) writeDelta(piece, open.track)
  }

  function closeTrack(): void {
    if (!open) return
    const { track, text, cutter } = open
    const rest = cutter.rest()
    if (rest !== '') writeDelta(rest, track)
    write(`${track.event}.done`, { ...track.at, [track.field]: text, ...track.more, ...track.doneMore })
    if (track.part) write(`${track.part.event}.done`, { ...track.at, part: track.part.of(text) })
    open = null
  }

  function writeText(track: Track, text: string): void {
    openTrack(track)
    if (text !== '') push(text)
    closeTrack()
  }

  const addItem = (item: Item, index: number) =>
    write('response.output_item.added', { output_index: index, item: emptied(item) })
  const finishItem = (item: Item, index: number) => write('response.output_item.done', { output_index: index, item })

  return {
    write,
    openTrack,
    push,
    closeTrack,
    addItem,
    finishItem,
    /** All events of an item. */
    writeItem(item: Item, index: number): void {
      addItem(item, index)
      for (const { track, text } of tracksOf(item, index)) writeText(track, text)
      finishItem(item, index)
    },
    isTrackOpen: () => open !== null,
    /** The events since the last call, as Server-Sent Events. */
    take(): string[] {
      const taken = frames
      frames = []
      return taken
    },
    /** Continues after events that another writer numbered. */
    continueAfter(number: number): void {
      sequence = number + 1
    },
  }
}
export type EventWriter = ReturnType<typeof createEventWriter>

/** An item at its beginning. */
function emptied(item: Item): Item {
  const status = item.status === undefined ? {} : { status: 'in_progress' }
  switch (item.type) {
    case 'message':
      return { ...item, ...status, content: [] }
    case 'function_call':
      return { ...item, ...status, arguments: '' }
    case 'custom_tool_call':
      return { ...item, ...status, input: '' }
    case 'reasoning':
      return { id: item.id, type: 'reasoning', summary: [] }
    default:
      return { ...item, ...status }
  }
}

/** The texts of an item. Items of hosted tools have none: they come whole. */
function tracksOf(item: Item, index: number): { track: Track; text: string }[] {
  const parts = (list: unknown) => (Array.isArray(list) ? (list as Fields[]) : [])
  switch (item.type) {
    case 'message':
      return parts(item.content).map((part, i) =>
        part.type === 'refusal'
          ? { track: trackOf('refusal', item, index, i), text: String(part.refusal) }
          : { track: trackOf('text', item, index, i, part), text: String(part.text) },
      )
    case 'function_call':
      return [{ track: trackOf('arguments', item, index), text: String(item.arguments) }]
    case 'custom_tool_call':
      return [{ track: trackOf('input', item, index), text: String(item.input) }]
    case 'reasoning':
      return [
        ...parts(item.summary).map((part, i) => ({
          track: trackOf('summary', item, index, i),
          text: String(part.text),
        })),
        ...parts(item.content).map((part, i) => ({
          track: trackOf('reasoning', item, index, i),
          text: String(part.text),
        })),
      ]
    default:
      return []
  }
}

/** @param i the position of the part within the item @param part the whole part, if it has more than text */
export function trackOf(kind: TrackKind, item: Item, index: number, i = 0, part?: Fields): Track {
  const at = { item_id: item.id, output_index: index }
  const content = { ...at, content_index: i }
  const partEvent = 'response.content_part'
  switch (kind) {
    case 'text':
      return {
        event: 'response.output_text',
        field: 'text',
        at: content,
        more: { logprobs: [] },
        part: { event: partEvent, of: text => ({ ...contentPart('text', text), ...(text !== '' && part) }) },
      }
    case 'refusal':
      return {
        event: 'response.refusal',
        field: 'refusal',
        at: content,
        part: { event: partEvent, of: text => contentPart('refusal', text) },
      }
    case 'arguments':
      return {
        event: 'response.function_call_arguments',
        field: 'arguments',
        at,
        doneMore: { name: item.name },
      }
    case 'input':
      return { event: 'response.custom_tool_call_input', field: 'input', at }
    case 'summary':
      return {
        event: 'response.reasoning_summary_text',
        field: 'text',
        at: { ...at, summary_index: i },
        part: { event: 'response.reasoning_summary_part', of: summaryPart },
      }
    case 'reasoning':
      return {
        event: 'response.reasoning_text',
        field: 'text',
        at: content,
        part: { event: partEvent, of: text => ({ type: 'reasoning_text', text }) },
      }
  }
}

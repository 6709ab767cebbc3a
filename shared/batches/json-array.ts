import { createRecordBuffer, decode, MAX_RECORD_BYTES, type RawRecord, withoutBom } from './jsonl.ts'
import type { Bytes, LineProblem } from './types.ts'

const QUOTE = 34
const COMMA = 44
const OPEN_LIST = 91
const BACKSLASH = 92
const CLOSE_LIST = 93
const OPEN_OBJECT = 123
const CLOSE_OBJECT = 125
const isSpace = (byte: number) => byte === 32 || byte === 10 || byte === 13 || byte === 9

const problem = (line: number, message: string): LineProblem => ({ line, code: 'invalid_json', message, param: null })

/**
 * The elements of a JSON array as texts; `line` is the number of the element, from 1. Only splits: the caller parses the elements.
 * Working on bytes is safe, because bytes of multi-byte characters never equal ASCII characters.
 */
export async function* splitElements(bytes: Bytes, limit: number = MAX_RECORD_BYTES): AsyncGenerator<RawRecord> {
  const buffer = createRecordBuffer(limit)
  let where: 'before' | 'inside' | 'after' = 'before'
  let line = 1
  let depth = 0
  let inString = false
  let escaped = false
  /** The element has a character other than white space. */
  let started = false

  for await (const chunk of withoutBom(bytes)) {
    let from = 0
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!
      if (inString) {
        if (escaped) escaped = false
        else if (byte === BACKSLASH) escaped = true
        else if (byte === QUOTE) inString = false
        continue
      }
      if (isSpace(byte)) continue
      if (where !== 'inside') {
        if (where === 'after') return yield problem(line, 'Something follows the array.')
        if (byte !== OPEN_LIST)
          return yield problem(
            line,
            'The file is not a JSON array. Send JSON lines as application/jsonl; the parameters of an OpenAI batch are sent to POST /v1/batches.',
          )
        where = 'inside'
        from = at + 1
        continue
      }
      if (depth === 0 && (byte === COMMA || byte === CLOSE_LIST)) {
        const element = buffer.take(chunk.subarray(from, at))
        from = at + 1
        if (started) yield decode(line, element, limit)
        else if (byte === COMMA || line > 1) yield problem(line, 'An element is missing.')
        if (byte === CLOSE_LIST) where = 'after'
        else line++
        started = false
        continue
      }
      started = true
      if (byte === QUOTE) inString = true
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) depth++
      // A surplus bracket is left to JSON.parse of the element.
      else if ((byte === CLOSE_LIST || byte === CLOSE_OBJECT) && depth > 0) depth--
    }
    if (where === 'inside') buffer.add(chunk.subarray(from))
  }
  if (where === 'inside') yield problem(line, 'The array is not closed.')
}

import { createHold, decode, MAX_RECORD_BYTES, type RawRecord, withoutBom } from './records.ts'
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
 * The elements of a JSON array as texts, `line` being the element's number from 1. Finds where elements end and nothing
 * else: whether they are JSON their reader sees. Bytes of what is not ASCII are never those that are looked for.
 */
export async function* splitElements(bytes: Bytes, limit: number = MAX_RECORD_BYTES): AsyncGenerator<RawRecord> {
  const hold = createHold(limit)
  let where: 'before' | 'inside' | 'after' = 'before'
  let line = 1
  let depth = 0
  let inString = false
  let escaped = false
  /** Something but space was seen in this element. */
  let begun = false

  for await (const piece of withoutBom(bytes)) {
    let from = 0
    for (let at = 0; at < piece.length; at++) {
      const byte = piece[at]!
      if (inString) {
        if (escaped) escaped = false
        else if (byte === BACKSLASH) escaped = true
        else if (byte === QUOTE) inString = false
        continue
      }
      if (isSpace(byte)) continue
      if (where !== 'inside') {
        if (where === 'after') return yield problem(line, 'Something follows the array.')
        if (byte !== OPEN_LIST) return yield problem(line, 'It is not a JSON array.')
        where = 'inside'
        from = at + 1
        continue
      }
      if (depth === 0 && (byte === COMMA || byte === CLOSE_LIST)) {
        const element = hold.take(piece.subarray(from, at))
        from = at + 1
        if (begun) yield decode(line, element, limit)
        else if (byte === COMMA || line > 1) yield problem(line, 'An element is missing.')
        if (byte === CLOSE_LIST) where = 'after'
        else line++
        begun = false
        continue
      }
      begun = true
      if (byte === QUOTE) inString = true
      else if (byte === OPEN_LIST || byte === OPEN_OBJECT) depth++
      // One too many is the element's fault, which JSON.parse finds.
      else if ((byte === CLOSE_LIST || byte === CLOSE_OBJECT) && depth > 0) depth--
    }
    if (where === 'inside') hold.add(piece.subarray(from))
  }
  if (where === 'inside') yield problem(line, 'The array is not closed.')
}

import { isUtf8 } from 'node:buffer'
import type { Bytes, LineProblem } from './types.ts'

/** The longest record that is read, in bytes. */
export const MAX_RECORD_BYTES = 8 * 1024 * 1024

/** A record's text, or why it has none. */
export type RawRecord = { line: number; text: string } | LineProblem

const NEWLINE = 10
/** What is white space to JSON. */
const BLANK = /^[ \t\r]*$/
const BOM = Buffer.from('\uFEFF')

/**
 * The lines of a file of JSON lines, without their ends (LF or CRLF). Blank ones are counted and left out. A line that is
 * too long is not held, and one that is not UTF-8 does not end the reading: both are problems.
 */
export async function* splitLines(bytes: Bytes, limit: number = MAX_RECORD_BYTES): AsyncGenerator<RawRecord> {
  const hold = createHold(limit)
  let line = 1
  for await (const piece of withoutBom(bytes)) {
    let from = 0
    for (let to = piece.indexOf(NEWLINE); to !== -1; to = piece.indexOf(NEWLINE, from)) {
      const record = recordOf(line, hold.take(piece.subarray(from, to)), limit)
      if (record) yield record
      line++
      from = to + 1
    }
    hold.add(piece.subarray(from))
  }
  const last = recordOf(line, hold.take(Buffer.alloc(0)), limit)
  if (last) yield last
}

function recordOf(line: number, bytes: Buffer | null, limit: number): RawRecord | null {
  const record = decode(line, bytes, limit)
  if (!('text' in record)) return record
  if (BLANK.test(record.text)) return null
  return record.text.endsWith('\r') ? { line, text: record.text.slice(0, -1) } : record
}

/** @param bytes null: there were too many */
export function decode(line: number, bytes: Buffer | null, limit: number): RawRecord {
  if (bytes === null) {
    return { line, code: 'line_too_long', message: `It is longer than ${limit} bytes.`, param: null }
  }
  if (!isUtf8(bytes)) return notUtf8(line)
  return { line, text: bytes.toString('utf8') }
}

export const notUtf8 = (line: number): LineProblem => ({
  line,
  code: 'invalid_utf8',
  message: 'It is not valid UTF-8.',
  param: null,
})

/** Collects a record that is cut across pieces; of one that is longer than `limit` it keeps nothing. */
export function createHold(limit: number) {
  let buffer = Buffer.allocUnsafe(0)
  let used = 0
  let tooLong = false

  function add(piece: Buffer): void {
    tooLong ||= used + piece.length > limit
    if (tooLong) return
    if (used + piece.length > buffer.length) {
      const larger = Buffer.allocUnsafe(Math.min(limit, Math.max(used + piece.length, buffer.length * 2)))
      buffer.copy(larger, 0, 0, used)
      buffer = larger
    }
    piece.copy(buffer, used)
    used += piece.length
  }

  return {
    add,
    /** The record that ends with `rest`, to be read before the next is added; null: it was too long. */
    take(rest: Buffer): Buffer | null {
      if (used === 0 && !tooLong) return rest.length > limit ? null : rest
      add(rest)
      const whole = tooLong ? null : buffer.subarray(0, used)
      used = 0
      tooLong = false
      return whole
    },
  }
}

/** The pieces without the byte order mark that some editors begin a file with; it may be cut itself. */
export async function* withoutBom(bytes: Bytes): AsyncGenerator<Buffer> {
  let head: Buffer | null = Buffer.alloc(0)
  for await (const piece of bytes) {
    if (head === null) {
      yield Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
      continue
    }
    head = Buffer.concat([head, piece])
    if (head.length < BOM.length) continue
    yield BOM.equals(head.subarray(0, BOM.length)) ? head.subarray(BOM.length) : head
    head = null
  }
  if (head) yield head
}

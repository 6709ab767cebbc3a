import { isUtf8 } from 'node:buffer'
import type { Bytes, LineProblem } from './types.ts'

/** Maximum bytes of a record. */
export const MAX_RECORD_BYTES = 8 * 1024 * 1024

/** The text of a record, or the problem with it. */
export type RawRecord = { line: number; text: string } | LineProblem

const NEWLINE = 10
/** JSON white space without line breaks. */
const BLANK = /^[ \t\r]*$/
const BOM = Buffer.from('\uFEFF')

/**
 * The lines of a JSON Lines file, without line breaks (LF or CRLF). Blank lines are counted and left out. A line that is too long is
 * not buffered. It is a problem, like a line that is not UTF-8, and reading continues.
 */
export async function* splitLines(bytes: Bytes, limit: number = MAX_RECORD_BYTES): AsyncGenerator<RawRecord> {
  const buffer = createRecordBuffer(limit)
  let line = 1
  for await (const chunk of withoutBom(bytes)) {
    let from = 0
    for (let to = chunk.indexOf(NEWLINE); to !== -1; to = chunk.indexOf(NEWLINE, from)) {
      const record = recordOf(line, buffer.take(chunk.subarray(from, to)), limit)
      if (record) yield record
      line++
      from = to + 1
    }
    buffer.add(chunk.subarray(from))
  }
  const last = recordOf(line, buffer.take(Buffer.alloc(0)), limit)
  if (last) yield last
}

function recordOf(line: number, bytes: Buffer | null, limit: number): RawRecord | null {
  const record = decode(line, bytes, limit)
  if (!('text' in record)) return record
  if (BLANK.test(record.text)) return null
  return record.text.endsWith('\r') ? { line, text: record.text.slice(0, -1) } : record
}

/** @param bytes null: the record was too long */
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

/** Collects a record that spans several chunks. Keeps nothing of a record longer than `limit`. */
export function createRecordBuffer(limit: number) {
  let buffer = Buffer.allocUnsafe(0)
  let used = 0
  let tooLong = false

  function add(chunk: Buffer): void {
    tooLong ||= used + chunk.length > limit
    if (tooLong) return
    if (used + chunk.length > buffer.length) {
      const larger = Buffer.allocUnsafe(Math.min(limit, Math.max(used + chunk.length, buffer.length * 2)))
      buffer.copy(larger, 0, 0, used)
      buffer = larger
    }
    chunk.copy(buffer, used)
    used += chunk.length
  }

  return {
    add,
    /** The record that ends with `rest`, valid until the next `add`; null: it was too long. */
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

/** Removes a byte order mark at the start, which may itself span chunks. */
export async function* withoutBom(bytes: Bytes): AsyncGenerator<Buffer> {
  let head: Buffer | null = Buffer.alloc(0)
  for await (const chunk of bytes) {
    if (head === null) {
      yield Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
      continue
    }
    head = Buffer.concat([head, chunk])
    if (head.length < BOM.length) continue
    yield BOM.equals(head.subarray(0, BOM.length)) ? head.subarray(BOM.length) : head
    head = null
  }
  if (head) yield head
}

import { isUtf8 } from 'node:buffer'
import { CsvError, parse } from 'csv-parse'
import { excerpt } from './checks.ts'
import { MAX_RECORD_BYTES, notUtf8, withoutBom } from './jsonl.ts'
import type { Bytes, LineProblem } from './types.ts'

/** `line`: the first line of the row, as an editor shows it. */
export type Row = { line: number; cells: string[] } | LineProblem

/**
 * The rows of a CSV, including its header (RFC 4180; LF or CRLF). An unclosed quote or similar error ends the reading, because the
 * start of the next row is then unknown.
 */
export async function* readTable(
  bytes: Bytes,
  delimiter: string,
  limit: number = MAX_RECORD_BYTES,
): AsyncGenerator<Row> {
  let rows: Row[] = []
  let error: CsvError | null = null
  // Counted here, because the parser counts a CRLF within quotes twice.
  let line = 1
  let blank = 0
  const skipped = (empty: number) => {
    line += empty - blank
    blank = empty
  }
  const parser = parse({
    // Decoded here, because the parser would replace invalid UTF-8 by U+FFFD.
    encoding: 'latin1',
    delimiter,
    record_delimiter: ['\r\n', '\n'],
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: limit,
    // Rows are taken here, because an error discards the rows in the stream.
    on_record: (cells: string[], { empty_lines }) => {
      skipped(empty_lines)
      const texts = cells.map(decodeCell)
      rows.push(texts.includes(null) ? notUtf8(line) : { line, cells: texts as string[] })
      line += 1 + cells.reduce((sum, cell) => sum + newlines(cell), 0)
      return null
    },
  })
  parser.on('error', one => {
    error = one as CsvError
  })

  function* taken(): Generator<Row> {
    yield* rows
    rows = []
    if (error === null) return
    if (!(error instanceof CsvError)) throw error
    skipped(Number(error.empty_lines ?? blank))
    const code = error.code === 'CSV_MAX_RECORD_SIZE' ? 'line_too_long' : 'invalid_csv_record'
    const message = `${excerpt(error.message, 300)}. Nothing after it was read.`
    yield { line, code, message, param: null }
  }

  try {
    for await (const chunk of withoutBom(bytes)) {
      await new Promise(resolve => parser.write(chunk, resolve))
      yield* taken()
      if (error) return
    }
    await new Promise(resolve => parser.end(resolve))
    yield* taken()
  } finally {
    parser.destroy()
  }
}

function newlines(cell: string): number {
  let count = 0
  for (let at = cell.indexOf('\n'); at !== -1; at = cell.indexOf('\n', at + 1)) count++
  return count
}

function decodeCell(latin1: string): string | null {
  if (!/[\x80-\xff]/.test(latin1)) return latin1
  const bytes = Buffer.from(latin1, 'latin1')
  return isUtf8(bytes) ? bytes.toString('utf8') : null
}

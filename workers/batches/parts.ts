import type { BatchParts, EndedLine, LineProblem, ParsedLine } from '#shared/batches/ports.ts'
import { createPlainFiles } from '#shared/db/plain-files.ts'
import type { Db } from '#shared/db/pool.ts'

/** STAND-INS until the store of files and the reader of lines are there: whole files, and JSONL of `generate`. */
export const createBatchParts = (db: Db): BatchParts => ({
  files: createPlainFiles(db),
  readLines,
  rejectedError: ({ status, error: { message, ...context } }) => ({
    code: 'invalid_request',
    message,
    context: { status, ...context },
  }),
  outputLine,
})

async function* readLines(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<ParsedLine | LineProblem> {
  let line = 0
  let rest = ''
  const decoder = new TextDecoder()
  const read = (text: string): ParsedLine | LineProblem => {
    line++
    try {
      const { custom_id, input, options, rejected } = JSON.parse(text)
      return {
        line,
        customId: custom_id ?? null,
        kind: 'generate',
        input,
        options: options ?? {},
        ...(rejected && { rejected }),
      }
    } catch {
      return { line, code: 'invalid_json_line', message: 'It is not JSON.', param: null }
    }
  }
  for await (const piece of bytes) {
    const texts = (rest + decoder.decode(piece, { stream: true })).split('\n')
    rest = texts.pop()!
    for (const text of texts) yield read(text)
  }
  if (rest !== '') yield read(rest)
}

const outputLine = (_endpoint: string, line: EndedLine): { file: 'output' | 'error'; text: string } => ({
  file: line.status === 'succeeded' ? 'output' : 'error',
  text: JSON.stringify({ custom_id: line.custom_id, status: line.status, result: line.result, error: line.error }),
})

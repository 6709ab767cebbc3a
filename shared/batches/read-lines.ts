import { hash } from 'node:crypto'
import { excerpt } from './checks.ts'
import { splitLines } from './jsonl.ts'
import { nativeLines } from './native.ts'
import { openAiReader } from './openai.ts'
import { type Bytes, type LineProblem, MAX_LINES, MAX_PROBLEMS, type ParsedLine, type ReadOptions } from './types.ts'

export * from './types.ts'

export const isProblem = (one: ParsedLine | LineProblem): one is LineProblem => 'code' in one

/**
 * Reads the input file of a batch: yields a line or a problem for each record, in order. Holds one chunk of the file and one record
 * at a time. No content throws; errors of `bytes` do. Ends after MAX_PROBLEMS problems, after MAX_LINES records, or at an error of a
 * JSON array or CSV after which the next record cannot be found.
 */
export async function* readLines(bytes: Bytes, options: ReadOptions): AsyncGenerator<ParsedLine | LineProblem> {
  /** Line numbers by digest of the custom_id. */
  const seen = new Map<string, number>()
  let records = 0
  let problems = 0
  for await (const one of options.surface === 'openai' ? openAiLines(bytes, options) : nativeLines(bytes, options)) {
    if (++records > MAX_LINES) {
      yield {
        line: one.line,
        code: 'too_many_tasks',
        message: `The file has more than ${MAX_LINES} records.`,
        param: null,
      }
      return
    }
    const unique = isProblem(one) ? one : checkUnique(one, seen)
    yield unique
    if (isProblem(unique) && ++problems >= MAX_PROBLEMS) return
  }
  if (records === 0) yield { line: 1, code: 'empty_file', message: 'The file has no records.', param: null }
}

async function* openAiLines(bytes: Bytes, options: ReadOptions) {
  const read = openAiReader(options)
  for await (const record of splitLines(bytes)) yield read(record)
}

function checkUnique(one: ParsedLine, seen: Map<string, number>): ParsedLine | LineProblem {
  const { line, customId } = one
  if (customId === null) return one
  const digest = hash('sha256', customId, 'base64')
  const earlier = seen.get(digest)
  if (earlier === undefined) {
    seen.set(digest, line)
    return one
  }
  const message = `The custom_id "${excerpt(customId)}" is used by line ${earlier} already.`
  return { line, code: 'duplicate_custom_id', message, param: 'custom_id' }
}

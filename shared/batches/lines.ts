import { hash } from 'node:crypto'
import { shown } from './checks.ts'
import { nativeLines } from './native.ts'
import { openAiReader } from './openai.ts'
import { splitLines } from './records.ts'
import { type Bytes, type LineProblem, MOST_LINES, MOST_PROBLEMS, type ParsedLine, type ReadOptions } from './types.ts'

export * from './types.ts'

export const isProblem = (one: ParsedLine | LineProblem): one is LineProblem => 'code' in one

/**
 * What a batch's input file says: a line or a problem for each of its records, in order. Holds one piece of the file and
 * one record at a time. Whatever the file contains is no exception; of `bytes` it is. Ends after MOST_PROBLEMS problems,
 * after MOST_LINES records, and where a JSON array or a CSV cannot be followed any further.
 */
export async function* readLines(bytes: Bytes, options: ReadOptions): AsyncGenerator<ParsedLine | LineProblem> {
  /** Digests of the custom_ids, with their lines. */
  const seen = new Map<string, number>()
  let records = 0
  let problems = 0
  for await (const one of options.surface === 'openai' ? openAiLines(bytes, options) : nativeLines(bytes, options)) {
    if (++records > MOST_LINES) {
      yield { line: one.line, code: 'too_many_tasks', message: `There are more than ${MOST_LINES}.`, param: null }
      return
    }
    const unique = isProblem(one) ? one : checkUnique(one, seen)
    yield unique
    if (isProblem(unique) && ++problems >= MOST_PROBLEMS) return
  }
  if (records === 0) yield { line: 1, code: 'empty_file', message: 'There is no line in it.', param: null }
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
  const message = `The custom_id "${shown(customId)}" is that of line ${earlier}, too.`
  return { line, code: 'duplicate_custom_id', message, param: 'custom_id' }
}

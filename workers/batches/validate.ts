import { type CheckDeps, createBreath, type InputFormat, prepared, readOptions } from '#shared/batches/check-input.ts'
import { isProblem, readLines } from '#shared/batches/lines.ts'
import { rejectedError } from '#shared/batches/openai.ts'
import type { ParsedLine } from '#shared/batches/types.ts'
import { taskCacheKey } from '#shared/cache-key.ts'
import type { BatchRow } from '#shared/db/batches.ts'
import { jsonOrNull } from '#shared/db/json.ts'
import { insertLines, type NewChunk, type NewLine } from '#shared/db/lines.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { promptVersionOf } from '#shared/jobs/prompt.ts'

/**
 * Lines of a chunk. Nothing else says where one ends: a validation that is repeated may find other texts in the lines (a policy
 * or a document was changed), and must come to the same chunks.
 */
const CHUNK_LINES = 200
/** Of one statement. */
const SLICE_LINES = 1000
const SLICE_CHARACTERS = 4_000_000
/** Writes all lines and their chunks. To be repeated at will. @returns false: the batch is validated no more */
export async function writeLines(
  deps: CheckDeps & { db: Db },
  batch: Pick<BatchRow, 'id'> & InputFormat,
  bytes: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<boolean> {
  const breath = createBreath()
  let lines: NewLine[] = []
  let chunks: NewChunk[] = []
  let characters = 0
  let inChunk = 0
  /** One statement is under way while the next is made. */
  let writing: Promise<boolean> = Promise.resolve(true)

  async function flush(): Promise<boolean> {
    const slice = [lines, chunks] as const
    const begun = inChunk > 0 ? chunks.at(-1) : undefined
    lines = []
    // Where it ends is written with each slice that it is part of.
    chunks = begun ? [{ ...begun }] : []
    characters = 0
    if (!(await writing)) return false
    writing = persist(() => insertLines(deps.db, batch.id, ...slice))
    // It is awaited before the next one, or at the end.
    writing.catch(() => undefined)
    return true
  }

  const lookup = deps.lookup(batch.api_key_id)
  for await (const read of readLines(bytes, readOptions(batch, deps, await deps.available()))) {
    await breath()
    if (signal.aborted) return false
    const one = isProblem(read) ? read : await prepared(deps, read, lookup)
    if (isProblem(one)) throw new Error(`line ${one.line} was fine when it was checked: ${one.message}`)
    const line = newLine(deps, batch.api_key_id, one)
    lines.push(line)
    characters += line.input.length + line.options.length
    if (inChunk === 0) chunks.push({ id: newId(), firstLine: line.line, lastLine: line.line })
    chunks.at(-1)!.lastLine = line.line
    inChunk = (inChunk + 1) % CHUNK_LINES
    if ((lines.length >= SLICE_LINES || characters >= SLICE_CHARACTERS) && !(await flush())) return false
  }
  return (lines.length === 0 || (await flush())) && (await writing)
}

function newLine({ jobs }: CheckDeps, apiKeyId: string, one: ParsedLine): NewLine {
  const kind = jobs.get(one.kind)
  const options = one.options as TaskOptions
  return {
    id: newId(),
    line: one.line,
    customId: one.customId,
    kind: one.kind,
    queue: kind?.queue ?? 'default',
    input: JSON.stringify(one.input),
    options: JSON.stringify(kind ? { ...options, prompt_version: promptVersionOf(kind, options) } : options),
    metadata: jsonOrNull(one.metadata),
    cacheKey: kind && !one.rejected ? taskCacheKey(kind, { input: one.input, options, apiKeyId }) : null,
    error: jsonOrNull(one.rejected && rejectedError(one.rejected)),
  }
}

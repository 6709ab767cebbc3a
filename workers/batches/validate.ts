import {
  type CheckDeps,
  createYielder,
  type InputFormat,
  prepareLine,
  readOptions,
} from '#shared/batches/check-input.ts'
import { rejectedError } from '#shared/batches/openai.ts'
import { isProblem, readLines } from '#shared/batches/read-lines.ts'
import type { ParsedLine } from '#shared/batches/types.ts'
import { taskCacheKey } from '#shared/cache/cache-key.ts'
import { insertLines, type NewChunk, type NewLine } from '#shared/db/batches/insert-lines.ts'
import type { BatchRow } from '#shared/db/batches/row.ts'
import { jsonOrNull } from '#shared/db/json.ts'
import type { Db } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import { newId } from '#shared/ids.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { promptVersionOf } from '#shared/jobs/prompt.ts'

/**
 * Lines of a chunk. Chunks end by this number alone: a repeated validation may find other texts in the lines, because a policy or a
 * document was changed, and must arrive at the same chunks.
 */
const CHUNK_LINES = 200
/** Maximum size of one statement. */
const SLICE_LINES = 1000
const SLICE_CHARACTERS = 4_000_000
/** Writes all lines and their chunks. It may be repeated. @returns false: the batch is no longer being validated */
export async function writeLines(
  deps: CheckDeps & { db: Db },
  batch: Pick<BatchRow, 'id'> & InputFormat,
  bytes: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<boolean> {
  const breath = createYielder()
  let lines: NewLine[] = []
  let chunks: NewChunk[] = []
  let characters = 0
  let inChunk = 0
  /** One statement runs while the next is built. */
  let writing: Promise<boolean> = Promise.resolve(true)

  async function flush(): Promise<boolean> {
    const slice = [lines, chunks] as const
    const begun = inChunk > 0 ? chunks.at(-1) : undefined
    lines = []
    // Each slice that contains a part of a chunk writes its end.
    chunks = begun ? [{ ...begun }] : []
    characters = 0
    if (!(await writing)) return false
    writing = retryUnavailable(() => insertLines(deps.db, batch.id, ...slice))
    // It is awaited before the next statement, or at the end.
    writing.catch(() => undefined)
    return true
  }

  const lookup = deps.lookup(batch.api_key_id)
  for await (const read of readLines(bytes, readOptions(batch, deps, await deps.available()))) {
    await breath()
    if (signal.aborted) return false
    const one = isProblem(read) ? read : await prepareLine(deps, read, lookup)
    if (isProblem(one)) throw new Error(`line ${one.line} passed the first check and fails now: ${one.message}`)
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

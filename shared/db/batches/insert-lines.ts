import { defineColumns } from '../columns.ts'
import type { Db } from '../pool.ts'

/** A new line. Its payloads are JSON text. */
export type NewLine = {
  id: string
  line: number
  customId: string | null
  kind: string
  queue: string
  input: string
  options: string
  metadata: string | null
  cacheKey: Buffer | null
  /** Set if validation rejected the line: it is written as failed and never runs (`run_at` infinity). */
  error: string | null
}

/** A range of lines that run together. */
export type NewChunk = { id: string; firstLine: number; lastLine: number }

const lineColumns = defineColumns<NewLine>([
  ['id', 'uuid', one => one.id],
  ['line', 'int', one => one.line],
  ['custom_id', 'text', one => one.customId],
  ['kind', 'text', one => one.kind],
  ['queue', 'text', one => one.queue],
  ['input', 'json', one => one.input],
  ['options', 'json', one => one.options],
  ['metadata', 'json', one => one.metadata],
  ['cache_key', 'bytea', one => one.cacheKey],
  ['error', 'json', one => one.error],
])
const chunkColumns = defineColumns<NewChunk>([
  ['id', 'uuid', one => one.id],
  ['first_line', 'int', one => one.firstLine],
  ['last_line', 'int', one => one.lastLine],
])

/**
 * The row lock orders this statement and a cancel: the cancel finds these lines, or this statement finds the batch cancelled. Lines
 * of an earlier validation whose worker died stay as they are. A chunk ends at its last written line.
 */
const insertStatement = {
  name: 'lines_insert',
  text: `WITH b AS MATERIALIZED (
      SELECT id, api_key_id, priority, expires_at FROM batches
      WHERE id = $1 AND (status || '') = 'validating' AND expires_at > now() FOR SHARE
    ), chunks AS (
      INSERT INTO batch_chunks (id, batch_id, step, first_line, last_line)
      SELECT c.id, b.id, 'run', c.first_line, c.last_line
      FROM b CROSS JOIN ${chunkColumns.unnest('c', 2)}
      ON CONFLICT (batch_id, step, first_line) DO UPDATE SET last_line = excluded.last_line
        WHERE batch_chunks.last_line < excluded.last_line
    ), lines AS (
      INSERT INTO tasks (id, kind, queue, priority, api_key_id, input, options, metadata, cache_key, status, error, run_at,
        dispatched_at, deadline_at, created_at, finished_at, batch_id, line, custom_id)
      SELECT i.id, i.kind, i.queue, b.priority, b.api_key_id, i.input, i.options, i.metadata, i.cache_key,
        CASE WHEN i.error IS NULL THEN 'queued' ELSE 'failed' END, i.error,
        CASE WHEN i.error IS NULL THEN now() ELSE 'infinity' END, 'infinity', b.expires_at, now(),
        CASE WHEN i.error IS NOT NULL THEN now() END, b.id, i.line, i.custom_id
      FROM b CROSS JOIN ${lineColumns.unnest('i', 2 + chunkColumns.count)}
      ON CONFLICT (batch_id, line) WHERE batch_id IS NOT NULL DO NOTHING
    )
    SELECT id FROM b`,
}

/**
 * Writes lines and their chunks. The last chunk may be written again, longer, with the next lines. May be repeated if the chunks
 * start at the same lines. @returns false: the batch is no longer `validating`
 */
export const insertLines = async (db: Db, batchId: string, lines: NewLine[], chunks: NewChunk[]): Promise<boolean> =>
  (await db.query(insertStatement, [batchId, ...chunkColumns.values(chunks), ...lineColumns.values(lines)])).length > 0

import type { EndedLine } from '#shared/batches/types.ts'
import type { Db } from './pool.ts'
import { STATUS } from './tasks.ts'

/** A line as a task to be. Its payloads are JSON already. */
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
  /** It is never run (`run_at` infinity): it has failed with this. */
  error: string | null
}

/** A range of lines that is run together. */
export type NewChunk = { id: string; firstLine: number; lastLine: number }

/**
 * The lock keeps a cancel from coming between: it finds these lines, or they find it. Lines that are there already, of a
 * validation that died, stay as they are. A chunk reaches as far as its lines have been written.
 */
const insertStatement = {
  name: 'lines_insert',
  text: `WITH b AS MATERIALIZED (
      SELECT id, api_key_id, priority, expires_at FROM batches
      WHERE id = $1 AND (status || '') = 'validating' AND expires_at > now() FOR SHARE
    ), chunks AS (
      INSERT INTO batch_chunks (id, batch_id, step, first_line, last_line)
      SELECT c.id, b.id, 'run', c.first_line, c.last_line
      FROM b CROSS JOIN unnest($12::uuid[], $13::int[], $14::int[]) AS c(id, first_line, last_line)
      ON CONFLICT (batch_id, step, first_line) DO UPDATE SET last_line = excluded.last_line
        WHERE batch_chunks.last_line < excluded.last_line
    ), lines AS (
      INSERT INTO tasks (id, kind, queue, priority, api_key_id, input, options, metadata, cache_key, status, error, run_at,
        dispatched_at, deadline_at, created_at, finished_at, batch_id, line, custom_id)
      SELECT i.id, i.kind, i.queue, b.priority, b.api_key_id, i.input, i.options, i.metadata, i.cache_key,
        CASE WHEN i.error IS NULL THEN 'queued' ELSE 'failed' END, i.error,
        CASE WHEN i.error IS NULL THEN now() ELSE 'infinity' END, 'infinity', b.expires_at, now(),
        CASE WHEN i.error IS NOT NULL THEN now() END, b.id, i.line, i.custom_id
      FROM b CROSS JOIN unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::json[], $8::json[], $9::json[],
        $10::bytea[], $11::json[]) AS i(id, line, custom_id, kind, queue, input, options, metadata, cache_key, error)
      ON CONFLICT (batch_id, line) WHERE batch_id IS NOT NULL DO NOTHING
    )
    SELECT id FROM b`,
}

/**
 * Writes lines with the chunks that they are in, of which the last may be written again, longer, with the lines that follow.
 * To be repeated at will, as long as chunks begin at the same lines. @returns false: the batch is validated no more
 */
export async function insertLines(db: Db, batchId: string, lines: NewLine[], chunks: NewChunk[]): Promise<boolean> {
  const rows = await db.query(insertStatement, [
    batchId,
    lines.map(one => one.id),
    lines.map(one => one.line),
    lines.map(one => one.customId),
    lines.map(one => one.kind),
    lines.map(one => one.queue),
    lines.map(one => one.input),
    lines.map(one => one.options),
    lines.map(one => one.metadata),
    lines.map(one => one.cacheKey),
    lines.map(one => one.error),
    chunks.map(one => one.id),
    chunks.map(one => one.firstLine),
    chunks.map(one => one.lastLine),
  ])
  return rows.length > 0
}

/** A line that has not ended. */
export type OpenLine = {
  id: string
  epoch: number
  running: boolean
  /** When it may run again, milliseconds from now; 0: now. */
  due_ms: number
  /** What it asks for, as it says itself: those that ask for the same meet the same limits. */
  target: string
}

const openStatement = {
  name: 'lines_open',
  text: `SELECT t.id, t.epoch, t.status = 'running' AS running,
      greatest(0, extract(epoch FROM t.run_at - now()) * 1000)::float8 AS due_ms,
      coalesce(t.options->>'provider', '') || '/' || coalesce(t.options->>'model', '') AS target
    FROM batch_chunks c JOIN tasks t ON t.batch_id = c.batch_id AND t.line BETWEEN c.first_line AND c.last_line
    WHERE c.id = $1 AND c.epoch = $2 AND (c.status || '') <> 'done' AND ($3::uuid IS NULL OR c.worker_id = $3)
      AND ${STATUS} IN ('queued', 'running')
    ORDER BY t.line`,
}

/** Lines of a chunk that have not ended; none if `workerId` no longer holds it. null: whoever holds it. */
export const listOpenLines = (
  db: Db,
  chunk: { id: string; epoch: number },
  workerId: string | null,
): Promise<OpenLine[]> => db.query<OpenLine>(openStatement, [chunk.id, chunk.epoch, workerId])

const MOST_RESULTS = 500
/** Of a slice, as text. Of an input only its schema is needed to write an answer. */
const MOST_BYTES = 4_000_000

const resultsStatement = {
  name: 'lines_results',
  text: `WITH slice AS MATERIALIZED (
      SELECT id, sum(bytes) OVER (ORDER BY line) AS bytes, row_number() OVER (ORDER BY line) AS n FROM (
        SELECT t.id, t.line, coalesce(octet_length((t.input->'schema')::text), 0) + coalesce(octet_length(t.result::text), 0) AS bytes FROM tasks t
        WHERE t.batch_id = $1 AND t.line > $2 AND ${STATUS} NOT IN ('queued', 'running') ORDER BY t.line LIMIT ${MOST_RESULTS}
      ) s
    )
    SELECT t.id AS task_id, t.line, t.custom_id, t.kind, t.status, t.result, t.source, t.quality, t.provider, t.model, t.error,
      CASE WHEN t.input->'schema' IS NULL THEN '{}'::json ELSE json_build_object('schema', t.input->'schema') END AS input, t.options,
      a.answer_tokens::float8 AS answer_tokens, coalesce(a.input_tokens, 0)::float8 AS input_tokens, coalesce(a.output_tokens, 0)::float8 AS output_tokens,
      trim_scale(coalesce(a.cost_usd, 0))::text AS cost_usd, t.created_at, t.finished_at
    FROM slice s JOIN tasks t ON t.id = s.id LEFT JOIN LATERAL (
      SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
        max(output_tokens) FILTER (WHERE outcome = 'succeeded') AS answer_tokens
      FROM attempts WHERE task_id = t.id
    ) a ON true
    WHERE s.bytes <= ${MOST_BYTES} OR s.n = 1 ORDER BY t.line`,
}

/** What has ended by now, by line, in slices of a bounded size. */
export async function* streamResults(db: Db, batchId: string): AsyncGenerator<EndedLine[]> {
  for (let after = 0; ; ) {
    const slice = await db.query<EndedLine>(resultsStatement, [batchId, after])
    if (slice.length === 0) return
    yield slice
    after = slice.at(-1)!.line
  }
}

const forgetStatement = {
  name: 'tasks_forget',
  text: `WITH old AS MATERIALIZED (
      SELECT t.id FROM tasks t WHERE t.id < $1 AND ${STATUS} NOT IN ('queued', 'running')
        AND NOT EXISTS (SELECT FROM batches b WHERE b.id = t.batch_id
          AND b.status IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
      ORDER BY t.id LIMIT $2
    ), attempts AS (DELETE FROM attempts a USING old WHERE a.task_id = old.id)
    , reviews AS (DELETE FROM reviews r USING old WHERE r.task_id = old.id)
    , feedback AS (DELETE FROM feedback f USING old WHERE f.task_id = old.id)
    , decisions AS (DELETE FROM review_decisions d USING old WHERE d.task_id = old.id)
    DELETE FROM tasks t USING old WHERE t.id = old.id RETURNING t.id`,
}

/** Drops tasks that ended and were made before `before` (a UUIDv7), with their attempts. @returns how many, at most `limit` */
export const forgetTasks = async (db: Db, before: string, limit: number): Promise<number> =>
  (await db.query(forgetStatement, [before, limit])).length

import type { TaskError } from '#shared/errors.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { Db } from '../pool.ts'
import { STATUS, type TerminalStatus } from '../tasks/row.ts'

/** A line that has not ended. */
export type OpenLine = {
  id: string
  epoch: number
  running: boolean
  /** Milliseconds until the line may run again; 0: now. */
  due_ms: number
  /** `<provider>/<model>` from the line's options. Lines with the same target share its limits. */
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

/** The open lines of a chunk; none if `workerId` has lost it. @param workerId null: any */
export const listOpenLines = (
  db: Db,
  chunk: { id: string; epoch: number },
  workerId: string | null,
): Promise<OpenLine[]> => db.query<OpenLine>(openStatement, [chunk.id, chunk.epoch, workerId])

/** The task of a line that has ended. */
export type EndedLine = {
  /** uuid */
  task_id: string
  line: number
  custom_id: string | null
  kind: string
  status: TerminalStatus
  result: unknown
  source: string | null
  quality: string | null
  provider: string | null
  model: string | null
  error: TaskError | null
  input: unknown
  options: Record<string, unknown>
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  reasoning_tokens: number
  /** Why the model stopped writing the result; null: unknown. */
  finish_reason: FinishReason | null
  /** Output tokens of the call that gave the answer, while `output_tokens` is the sum of all calls; null: unknown. */
  answer_tokens: number | null
  cost_usd: string
  created_at: Date
  finished_at: Date | null
}

const MAX_RESULTS = 500
/** Bytes of results per slice, as text. Of an input only the schema is read, because output lines need no more. */
const MAX_BYTES = 4_000_000

const resultsStatement = {
  name: 'lines_results',
  text: `WITH slice AS MATERIALIZED (
      SELECT id, sum(bytes) OVER (ORDER BY line) AS bytes, row_number() OVER (ORDER BY line) AS n FROM (
        SELECT t.id, t.line, coalesce(octet_length((t.input->'schema')::text), 0) + coalesce(octet_length(t.result::text), 0) AS bytes FROM tasks t
        WHERE t.batch_id = $1 AND t.line > $2 AND ${STATUS} NOT IN ('queued', 'running') ORDER BY t.line LIMIT ${MAX_RESULTS}
      ) s
    )
    SELECT t.id AS task_id, t.line, t.custom_id, t.kind, t.status, t.result, t.source, t.quality, t.provider, t.model, t.error, t.finish_reason,
      CASE WHEN t.input->'schema' IS NULL THEN '{}'::json ELSE json_build_object('schema', t.input->'schema') END AS input, t.options,
      a.answer_tokens::float8 AS answer_tokens, coalesce(a.input_tokens, 0)::float8 AS input_tokens, coalesce(a.output_tokens, 0)::float8 AS output_tokens,
      coalesce(a.cache_read_tokens, 0)::float8 AS cache_read_tokens, coalesce(a.cache_write_tokens, 0)::float8 AS cache_write_tokens,
      coalesce(a.reasoning_tokens, 0)::float8 AS reasoning_tokens,
      trim_scale(coalesce(a.cost_usd, 0))::text AS cost_usd, t.created_at, t.finished_at
    FROM slice s JOIN tasks t ON t.id = s.id LEFT JOIN LATERAL (
      SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
        sum(cache_read_tokens) AS cache_read_tokens, sum(cache_write_tokens) AS cache_write_tokens, sum(reasoning_tokens) AS reasoning_tokens,
        max(output_tokens) FILTER (WHERE outcome = 'succeeded') AS answer_tokens
      FROM attempts WHERE task_id = t.id
    ) a ON true
    WHERE s.bytes <= ${MAX_BYTES} OR s.n = 1 ORDER BY t.line`,
}

/** The lines of a batch that have ended so far, by line, in slices of bounded size. */
export async function* streamResults(db: Db, batchId: string): AsyncGenerator<EndedLine[]> {
  for (let after = 0; ; ) {
    const slice = await db.query<EndedLine>(resultsStatement, [batchId, after])
    if (slice.length === 0) return
    yield slice
    after = slice.at(-1)!.line
  }
}

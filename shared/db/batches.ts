import { newId } from '#shared/ids.ts'
import { type ChunkJob, HOPELESS, IN_CHUNK, LINE_SUMS, LINES_OF_CHUNK } from './chunks.ts'
import { IDEMPOTENCY_HOURS } from './insert.ts'
import { jsonOrNull } from './json.ts'
import type { Db } from './pool.ts'
import { tellOf } from './webhooks.ts'

export type BatchStatus =
  | 'validating'
  | 'in_progress'
  | 'finalizing'
  | 'completed'
  | 'failed'
  | 'expired'
  | 'cancelling'
  | 'cancelled'

export type BatchProblem = { line: number | null; code: string; message: string; param: string | null }

export type BatchRow = {
  id: string
  api_key_id: string
  surface: 'openai' | 'native'
  endpoint: string | null
  kind: string | null
  status: BatchStatus
  input_file_id: string
  output_file_id: string | null
  error_file_id: string | null
  mapping: unknown
  options: Record<string, unknown>
  priority: string
  metadata: Record<string, unknown> | null
  completion_window: string
  output_expires_seconds: number | null
  webhook_url: string | null
  max_cost_usd: string | null
  bound_usd: string | null
  model: string | null
  errors: BatchProblem[] | null
  /** Lines; 0 until they are known. */
  total: number
  created_at: Date
  in_progress_at: Date | null
  finalizing_at: Date | null
  completed_at: Date | null
  failed_at: Date | null
  expired_at: Date | null
  cancelling_at: Date | null
  cancelled_at: Date | null
  expires_at: Date
}

/** With what has become of its lines by now. */
export type BatchView = BatchRow & {
  succeeded: number
  failed: number
  cancelled: number
  expired: number
  input_tokens: number
  output_tokens: number
  cost_usd: string
  /** Lines that ended per second, of late; null unless lines are being run. */
  rate: number | null
  /** Until the rest has ended at that rate; null: nobody knows. */
  eta_seconds: number | null
}

export type NewBatch = {
  id: string
  apiKeyId: string
  surface: 'openai' | 'native'
  endpoint: string | null
  kind: string | null
  inputFileId: string
  mapping: unknown
  options: Record<string, unknown>
  priority: string
  metadata: Record<string, unknown> | null
  completionWindow: string
  /** What that is in seconds: its lines' deadline. */
  windowSeconds: number
  outputExpiresSeconds: number | null
  webhookUrl: string | null
  /** Decimal; a budget of its own. */
  maxCostUsd: string | null
  /** W3C trace context of its submission, if it is traced. */
  traceparent?: string | null
  /** Absent: each time it is another batch. */
  idempotency?: { key: string; requestHash: Buffer } | null
}

export type CreateOutcome =
  | { kind: 'created'; batch: BatchRow }
  /** The Idempotency-Key was used before: for this batch (or task), with this request. */
  | { kind: 'exists'; id: string; requestHash: Buffer }

const ROW = `b.id, b.api_key_id, b.surface, b.endpoint, b.kind, b.status, b.input_file_id, b.output_file_id, b.error_file_id,
  b.mapping, b.options, b.priority, b.metadata, b.completion_window, b.output_expires_seconds, b.webhook_url,
  trim_scale(b.max_cost_usd)::text AS max_cost_usd, trim_scale(b.bound_usd)::text AS bound_usd, b.model, b.errors, b.total,
  b.created_at, b.in_progress_at, b.finalizing_at, b.completed_at, b.failed_at, b.expired_at, b.cancelling_at, b.cancelled_at,
  b.expires_at`

/** Of batches `b`: the budget that stands for `max_cost_usd`, with what was spent in earlier runs. `$id` names a parameter. */
const ownBudget = (id: string) => `budget AS (
      INSERT INTO budgets (id, scope, span, limit_usd) SELECT ${id}::uuid, 'batch:' || b.id, 'total', b.max_cost_usd
      FROM b WHERE b.max_cost_usd IS NOT NULL ON CONFLICT (scope, span) DO NOTHING RETURNING id, limit_usd
    ), budget_window AS (
      INSERT INTO budget_windows (budget_id, starts_at, limit_usd, spent_usd)
      SELECT budget.id, 'epoch', budget.limit_usd, b.cost_usd FROM budget CROSS JOIN b
    )`
const dropBudget = `budget AS (
      DELETE FROM budgets g USING b WHERE g.scope = 'batch:' || b.id RETURNING g.id
    ), budget_window AS (
      DELETE FROM budget_windows w USING budget WHERE w.budget_id = budget.id
    )`
/** Of batches `b` that have ended: whom to tell. */
const HOOK = `hook AS (${tellOf('batch', 'b')})`

/**
 * The chunk that validates a batch has the batch's own id, so that whoever made the batch knows its job. A key that another
 * request is using at this moment is waited for; tasks, which share their statements, do not wait for this one.
 */
const createStatement = {
  name: 'batches_create',
  text: `WITH lock AS MATERIALIZED (
      SELECT pg_advisory_xact_lock(hashtextextended($2::uuid::text || $18, 0)) IS NOT NULL AS got WHERE $18::text IS NOT NULL
    ), remembered AS (
      INSERT INTO idempotency_keys AS r (api_key_id, key, task_id, request_hash, expires_at)
      SELECT $2::uuid, $18, $1::uuid, $19::bytea, now() + interval '${IDEMPOTENCY_HOURS} hours' FROM lock WHERE got
      ON CONFLICT (api_key_id, key) DO UPDATE
        SET task_id = excluded.task_id, request_hash = excluded.request_hash, expires_at = excluded.expires_at
        WHERE r.expires_at <= now()
      RETURNING task_id
    ), b AS (
      INSERT INTO batches AS b (id, api_key_id, surface, endpoint, kind, input_file_id, mapping, options, priority, metadata,
        completion_window, output_expires_seconds, webhook_url, max_cost_usd, created_at, expires_at, traceparent)
      SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::uuid, $7::json, $8::json, $9::text, $10::json, $11::text, $12::int,
        $13::text, $14::numeric, now(), now() + make_interval(secs => $15), $17::text
      WHERE $18::text IS NULL OR EXISTS (SELECT FROM remembered)
      RETURNING b.*
    ), chunk AS (
      INSERT INTO batch_chunks (id, batch_id, step, dispatched_at) SELECT b.id, b.id, 'validate', now() FROM b
    ), ${ownBudget('$16')}
    SELECT ${ROW} FROM b`,
}

/** Accepts a batch. The caller is to dispatch `validateJob` of it; if it does not, the sweeper will. */
export async function createBatch(db: Db, batch: NewBatch): Promise<CreateOutcome> {
  const { idempotency = null } = batch
  const rows = await db.query<BatchRow>(createStatement, [
    batch.id,
    batch.apiKeyId,
    batch.surface,
    batch.endpoint,
    batch.kind,
    batch.inputFileId,
    jsonOrNull(batch.mapping),
    JSON.stringify(batch.options),
    batch.priority,
    jsonOrNull(batch.metadata),
    batch.completionWindow,
    batch.outputExpiresSeconds,
    batch.webhookUrl,
    batch.maxCostUsd,
    batch.windowSeconds,
    newId(),
    batch.traceparent ?? null,
    idempotency?.key ?? null,
    idempotency?.requestHash ?? null,
  ])
  if (rows[0]) return { kind: 'created', batch: rows[0] }
  const [earlier] = await db.query<{ id: string; request_hash: Buffer }>(
    {
      name: 'batches_find_idempotent',
      text: 'SELECT task_id AS id, request_hash FROM idempotency_keys WHERE api_key_id = $1 AND key = $2',
    },
    [batch.apiKeyId, idempotency!.key],
  )
  // Swept between the two statements: then the key is to be had.
  return earlier ? { kind: 'exists', id: earlier.id, requestHash: earlier.request_hash } : createBatch(db, batch)
}

export const validateJob = ({ id, priority }: Pick<BatchRow, 'id' | 'priority'>): ChunkJob => ({
  id,
  epoch: 0,
  queue: 'batch',
  priority,
})

/**
 * The lines of chunks that run are counted, those of the others have been: of one that waits to be tried again, those that it
 * will not run. Rates are of the last so many seconds.
 */
const WINDOW_SECONDS = 60
const WINDOW = `interval '${WINDOW_SECONDS} seconds'`
const VIEW = `SELECT ${ROW}, coalesce(s.succeeded, b.succeeded)::int AS succeeded, coalesce(s.failed, b.failed)::int AS failed,
      coalesce(s.cancelled, b.cancelled)::int AS cancelled, coalesce(s.expired, b.expired)::int AS expired,
      coalesce(s.input_tokens, b.input_tokens)::float8 AS input_tokens,
      coalesce(s.output_tokens, b.output_tokens)::float8 AS output_tokens,
      trim_scale(coalesce(s.cost_usd, b.cost_usd))::text AS cost_usd,
      CASE WHEN b.status = 'in_progress' THEN s.recent / greatest(1, least(${WINDOW_SECONDS}, extract(epoch FROM now() - b.in_progress_at)::float8)) END AS rate
    FROM b LEFT JOIN LATERAL (
      SELECT sum(coalesce(l.succeeded, c.succeeded)) AS succeeded, sum(coalesce(l.failed, c.failed)) AS failed, sum(coalesce(l.cancelled, c.cancelled)) AS cancelled,
        sum(coalesce(l.expired, c.expired)) AS expired, sum(coalesce(l.input_tokens, c.input_tokens)) AS input_tokens,
        sum(coalesce(l.output_tokens, c.output_tokens)) AS output_tokens, sum(coalesce(l.cost_usd, c.cost_usd)) AS cost_usd,
        -- The lines of a chunk that is done are taken to have ended evenly while it ran.
        sum(coalesce(l.recent, CASE WHEN c.finished_at > now() - ${WINDOW} THEN (c.succeeded + c.failed + c.cancelled + c.expired)
          * least(1, extract(epoch FROM c.finished_at - (now() - ${WINDOW})) / greatest(0.001, extract(epoch FROM c.finished_at - c.started_at))) END, 0))::float8 AS recent
      FROM batch_chunks c LEFT JOIN LATERAL (
        SELECT ${LINE_SUMS}, count(*) FILTER (WHERE t.finished_at > now() - ${WINDOW}) AS recent
        FROM ${LINES_OF_CHUNK} WHERE ${IN_CHUNK}
        -- As a condition of the join it would be asked when all has been counted.
        HAVING c.status <> 'done' AND c.started_at IS NOT NULL
      ) l ON true
      WHERE c.batch_id = b.id AND c.step = 'run'
      HAVING b.status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
    ) s ON true`

const withEta = (row: Omit<BatchView, 'eta_seconds'>): BatchView => {
  const left = row.total - row.succeeded - row.failed - row.cancelled - row.expired
  return { ...row, eta_seconds: row.rate ? left / row.rate : null }
}

const findStatement = {
  name: 'batches_find',
  text: `WITH b AS MATERIALIZED (SELECT * FROM batches WHERE id = $1) ${VIEW}`,
}

/** A batch as of now. null: there is none. */
export async function findBatch(db: Db, id: string): Promise<BatchView | null> {
  const [row] = await db.query<Omit<BatchView, 'eta_seconds'>>(findStatement, [id])
  return row ? withEta(row) : null
}

export type BatchQuery = {
  /** null: of all keys. */
  apiKeyId: string | null
  surface?: BatchRow['surface']
  /** Only those older than this one. */
  after?: string | null
  limit: number
}

/** Newest first. */
export async function listBatches(db: Db, { apiKeyId, surface, after, limit }: BatchQuery): Promise<BatchView[]> {
  // Built per combination: with `$1 IS NULL OR …` the one prepared plan could use no index.
  const values: unknown[] = [limit]
  const param = (value: unknown) => `$${values.push(value)}`
  const conditions = [
    apiKeyId !== null && `api_key_id = ${param(apiKeyId)}`,
    surface && `surface = ${param(surface)}`,
    after && `id < ${param(after)}`,
  ].filter(one => typeof one === 'string')
  const where = conditions.length > 0 ? `WHERE ${conditions.join(' AND ')}` : ''
  const rows = await db.query<Omit<BatchView, 'eta_seconds'>>(
    {
      name: `batches_list${apiKeyId === null ? '' : '_key'}${surface ? '_surface' : ''}${after ? '_after' : ''}`,
      text: `WITH b AS MATERIALIZED (SELECT * FROM batches ${where} ORDER BY id DESC LIMIT $1) ${VIEW} ORDER BY b.id DESC`,
    },
    values,
  )
  return rows.map(withEta)
}

/** What is needed to work on a batch. */
export const readBatch = async (db: Db, id: string): Promise<BatchRow | null> =>
  (await db.query<BatchRow>({ name: 'batches_read', text: `SELECT ${ROW} FROM batches b WHERE b.id = $1` }, [id]))[0] ??
  null

type ChunkClaim = { id: string; epoch: number; workerId: string | null }
const closeClaim = (condition = 'true') => `c AS (
      UPDATE batch_chunks c SET status = 'done', worker_id = NULL, finished_at = now()
      WHERE c.id = $1 AND c.epoch = $2 AND (c.status || '') <> 'done'
        AND ($3::uuid IS NULL OR (c.status || '') = 'running' AND c.worker_id = $3) AND ${condition}
      RETURNING c.batch_id
    )`

/** Each of so many lines has to be in one chunk: what is in none is never run, and what is in two is counted twice. */
const startStatement = {
  name: 'batches_start',
  text: `WITH ranges AS MATERIALIZED (
      SELECT c.first_line > coalesce(lag(c.last_line) OVER (ORDER BY c.first_line), 0) AS apart,
        (SELECT count(*) FROM tasks t WHERE t.batch_id = c.batch_id AND t.line BETWEEN c.first_line AND c.last_line) AS lines
      FROM batch_chunks c WHERE c.batch_id = (SELECT v.batch_id FROM batch_chunks v WHERE v.id = $1) AND c.step = 'run'
    ), whole AS MATERIALIZED (
      SELECT coalesce(bool_and(apart) AND sum(lines) = $4::int, false) AND $4::int = (
        SELECT count(*) FROM tasks t WHERE t.batch_id = (SELECT v.batch_id FROM batch_chunks v WHERE v.id = $1)
      ) AS whole FROM ranges
    ), ${closeClaim('(SELECT whole FROM whole)')}, b AS (
      UPDATE batches b SET status = 'in_progress', in_progress_at = now(), total = $4, bound_usd = $5, model = $6
      FROM c WHERE b.id = c.batch_id AND (b.status || '') = 'validating' RETURNING b.id
    )
    SELECT w.whole, b.id IS NOT NULL AS started FROM whole w LEFT JOIN b ON true`,
}

/**
 * validating -> in_progress: all its lines are written. `uneven`: its chunks do not hold each of them once, and nothing has
 * changed. `lost`: the claim was, or the batch has moved on.
 */
export async function startBatch(
  db: Db,
  chunk: ChunkClaim,
  found: { total: number; boundUsd: string | null; model: string | null },
): Promise<'started' | 'uneven' | 'lost'> {
  const [row] = await db.query<{ whole: boolean; started: boolean }>(startStatement, [
    chunk.id,
    chunk.epoch,
    chunk.workerId,
    found.total,
    found.boundUsd,
    found.model,
  ])
  return row?.started ? 'started' : row?.whole ? 'lost' : 'uneven'
}

/** What an earlier claim has read of its input: as chunks that nobody can do, the sweeper finds and ends it, some at a time. */
const LEFT = `left_over AS (
      UPDATE batch_chunks r SET status = 'running', worker_id = NULL, claims = ${HOPELESS}
      FROM b WHERE r.batch_id = b.id AND r.step = 'run' AND (r.status || '') = 'waiting'
    )`

/** Whatever it was doing -> failed, with all of its lines that have not ended. @returns false: the claim was lost */
export async function failBatch(db: Db, chunk: ChunkClaim, errors: BatchProblem[]): Promise<boolean> {
  const rows = await db.query(
    {
      name: 'batches_fail',
      text: `WITH ${closeClaim()}, b AS (
          UPDATE batches b SET status = 'failed', failed_at = now(), errors = $4
          FROM c WHERE b.id = c.batch_id AND (b.status || '') IN ('validating', 'finalizing', 'cancelling') RETURNING b.*
        ), ${LEFT}, ${dropBudget}, ${HOOK}
        SELECT id FROM b`,
    },
    [chunk.id, chunk.epoch, chunk.workerId, JSON.stringify(errors)],
  )
  return rows.length > 0
}

/** One that was cancelled stays `cancelling` while its output is written. */
const finalizeStatement = {
  name: 'batches_finalize',
  text: `WITH b AS (
      UPDATE batches b SET status = CASE b.status WHEN 'cancelling' THEN b.status ELSE 'finalizing' END, finalizing_at = now()
      FROM (
        SELECT r.id FROM batches r WHERE r.status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
          AND r.status <> 'finalizing' AND ($1::uuid IS NULL OR r.id = $1)
          AND NOT EXISTS (SELECT FROM batch_chunks c WHERE c.batch_id = r.id AND (c.status || '') <> 'done')
        LIMIT 500 FOR UPDATE SKIP LOCKED
      ) r WHERE b.id = r.id AND (b.status || '') IN ('validating', 'in_progress', 'cancelling')
      RETURNING b.id, b.priority
    )
    INSERT INTO batch_chunks AS c (id, batch_id, step, dispatched_at)
    SELECT i.id, b.id, 'finalize', now() FROM (SELECT b.*, row_number() OVER () AS n FROM b) b
      JOIN unnest($2::uuid[]) WITH ORDINALITY AS i(id, n) ON i.n = b.n
    ON CONFLICT (batch_id, step, first_line) DO UPDATE
      SET status = 'waiting', epoch = c.epoch + 1, claims = 0, dispatched_at = now(), started_at = NULL, finished_at = NULL
    RETURNING c.id, c.epoch, 'batch' AS queue, (SELECT b.priority FROM b WHERE b.id = c.batch_id) AS priority`,
}
const MOST_FINALIZED = 500

/** Of a batch, or of all, whose lines have all ended: the chunks that write the output, for the caller to dispatch. */
export const finalizeReady = (db: Db, batchId: string | null): Promise<ChunkJob[]> =>
  db.query<ChunkJob>(finalizeStatement, [
    batchId,
    Array.from({ length: batchId === null ? MOST_FINALIZED : 1 }, () => newId()),
  ])

const endStatement = {
  name: 'batches_end',
  text: `WITH ${closeClaim()}, s AS MATERIALIZED (
      SELECT c.batch_id, coalesce(sum(r.succeeded), 0) AS succeeded, coalesce(sum(r.failed), 0) AS failed,
        coalesce(sum(r.cancelled), 0) AS cancelled, coalesce(sum(r.expired), 0) AS expired,
        coalesce(sum(r.input_tokens), 0) AS input_tokens, coalesce(sum(r.output_tokens), 0) AS output_tokens,
        coalesce(sum(r.cost_usd), 0) AS cost_usd
      FROM c LEFT JOIN batch_chunks r ON r.batch_id = c.batch_id AND r.step = 'run' GROUP BY c.batch_id
    ), how AS (
      SELECT b.id, CASE WHEN b.status = 'cancelling' THEN 'cancelled' WHEN s.expired > 0 OR b.in_progress_at IS NULL THEN 'expired'
        ELSE 'completed' END AS status
      FROM s JOIN batches b ON b.id = s.batch_id
    ), b AS (
      UPDATE batches b SET status = how.status, output_file_id = $4, error_file_id = $5,
        succeeded = s.succeeded, failed = s.failed, cancelled = s.cancelled, expired = s.expired,
        total = greatest(b.total, s.succeeded + s.failed + s.cancelled + s.expired),
        input_tokens = s.input_tokens, output_tokens = s.output_tokens, cost_usd = s.cost_usd,
        completed_at = CASE how.status WHEN 'completed' THEN now() END, expired_at = CASE how.status WHEN 'expired' THEN now() END,
        cancelled_at = CASE how.status WHEN 'cancelled' THEN now() END
      FROM how JOIN s ON s.batch_id = how.id WHERE b.id = how.id AND (b.status || '') IN ('finalizing', 'cancelling') RETURNING b.*
    ), ${dropBudget}, ${HOOK}
    SELECT status FROM b`,
}

/** Its output is written: ends the batch, as what its lines and its client say. @returns null: the claim was lost */
export async function endBatch(
  db: Db,
  chunk: ChunkClaim,
  files: { output: string | null; error: string | null },
): Promise<BatchStatus | null> {
  const rows = await db.query<{ status: BatchStatus }>(endStatement, [
    chunk.id,
    chunk.epoch,
    chunk.workerId,
    files.output,
    files.error,
  ])
  return rows[0]?.status ?? null
}

/** Stops a batch: what runs may end, the rest is cancelled. One whose lines have all ended cannot be cancelled any more. */
export async function cancelBatch(db: Db, id: string): Promise<'cancelling' | 'not_cancellable' | 'not_found'> {
  const rows = await db.query<{ cancelled: boolean }>(
    {
      name: 'batches_cancel',
      text: `WITH b AS (
          UPDATE batches b SET status = 'cancelling', cancelling_at = now()
          WHERE b.id = $1 AND (b.status || '') IN ('validating', 'in_progress') RETURNING b.id
        )
        SELECT b.id IS NOT NULL OR o.status = 'cancelling' AS cancelled FROM batches o LEFT JOIN b ON true WHERE o.id = $1`,
    },
    [id],
  )
  return rows.length === 0 ? 'not_found' : rows[0]!.cancelled ? 'cancelling' : 'not_cancellable'
}

/**
 * What was rejected when it was read (`run_at` infinity) stays so. A chunk is run again if it has lines to try again, and runs
 * only them. Its sums are those of the others until it is claimed, and are made anew when it is done.
 */
const retryStatement = {
  name: 'batches_retry',
  text: `WITH w AS MATERIALIZED (
      SELECT id FROM batches b WHERE b.id = $1 AND (b.status || '') IN ('completed', 'expired', 'cancelled')
        -- One that was stopped while it was read has only a part of its file here.
        AND b.in_progress_at IS NOT NULL
        AND EXISTS (SELECT FROM tasks t WHERE t.batch_id = b.id AND t.run_at < 'infinity' AND (t.status || '') IN ('failed', 'expired', 'cancelled'))
      FOR UPDATE
    ), b AS (
      UPDATE batches b SET status = 'in_progress', in_progress_at = now(), expires_at = now() + make_interval(secs => $2),
        finalizing_at = NULL, completed_at = NULL, expired_at = NULL, cancelling_at = NULL, cancelled_at = NULL
      FROM w WHERE b.id = w.id RETURNING b.*
    ), lines AS (
      UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, tries = 0, claims = 0, error = NULL, result = NULL, output_filtered = NULL, finished_at = NULL,
        run_at = now(), dispatched_at = 'infinity', deadline_at = b.expires_at
      FROM b WHERE t.batch_id = b.id AND t.run_at < 'infinity' AND (t.status || '') IN ('failed', 'expired', 'cancelled')
      RETURNING t.line
    ), chunks AS (
      UPDATE batch_chunks c SET status = 'waiting', epoch = c.epoch + 1, claims = 0, dispatched_at = NULL, started_at = NULL,
        finished_at = NULL, cancelled = 0, expired = 0, failed = (SELECT count(*) FROM tasks t WHERE ${IN_CHUNK} AND t.run_at = 'infinity')
      FROM b WHERE c.batch_id = b.id AND c.step = 'run' AND c.failed + c.expired + c.cancelled > 0
    ), ${ownBudget('$3')}
    SELECT (SELECT count(*) FROM lines)::int AS lines FROM b`,
}

export type RetryOutcome =
  | { kind: 'retried'; lines: number }
  /** It has not ended, or nothing in it can be tried again. */
  | { kind: 'nothing_to_retry' }
  | { kind: 'not_found' }

/**
 * Runs the lines of an ended batch again that failed, expired or were cancelled, with `windowSeconds` to go. `top up` of
 * the sweeper hands them over, or the caller by `topUp`.
 */
export async function retryBatch(db: Db, id: string, windowSeconds: number): Promise<RetryOutcome> {
  const rows = await db.query<{ lines: number }>(retryStatement, [id, windowSeconds, newId()])
  if (rows[0]) return { kind: 'retried', lines: rows[0].lines }
  return (await readBatch(db, id)) ? { kind: 'nothing_to_retry' } : { kind: 'not_found' }
}

export type LiveBatches = { status: BatchStatus; count: number }

export const countLiveBatches = (db: Db): Promise<LiveBatches[]> =>
  db.query<LiveBatches>({
    name: 'batches_count_live',
    text: `SELECT status, count(*)::int AS count FROM batches
      WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling') GROUP BY status`,
  })

/** Drops batches that ended and were made before `before` (a UUIDv7), with their chunks. @returns how many, at most `limit` */
export const forgetBatches = async (db: Db, before: string, limit: number): Promise<number> =>
  (
    await db.query(
      {
        name: 'batches_forget',
        text: `WITH old AS MATERIALIZED (
            SELECT b.id FROM batches b WHERE b.id < $1 AND (b.status || '') IN ('completed', 'failed', 'expired', 'cancelled')
              AND NOT EXISTS (SELECT FROM tasks t WHERE t.batch_id = b.id)
            ORDER BY b.id LIMIT $2
          ), chunks AS (DELETE FROM batch_chunks c USING old WHERE c.batch_id = old.id)
          DELETE FROM batches b USING old WHERE b.id = old.id RETURNING b.id`,
      },
      [before, limit],
    )
  ).length

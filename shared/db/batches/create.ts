import { newId } from '#shared/ids.ts'
import { rememberIdempotencyKeys } from '../idempotency.ts'
import { jsonOrNull } from '../json.ts'
import { idempotencyLock } from '../locks.ts'
import type { Db } from '../pool.ts'
import type { ChunkJob } from './chunk.ts'
import { createOwnBudget } from './own-budget.ts'
import { BATCH_COLUMNS, type BatchRow } from './row.ts'

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
  /** `completionWindow` in seconds: the deadline of the lines. */
  windowSeconds: number
  outputExpiresSeconds: number | null
  webhookUrl: string | null
  /** Decimal. The batch gets a budget of its own. */
  maxCostUsd: string | null
  /** W3C trace context of the submission, if it is traced. */
  traceparent?: string | null
  /** Absent: the request is not idempotent. */
  idempotency?: { key: string; requestHash: Buffer } | null
}

export type CreateOutcome =
  | { kind: 'created'; batch: BatchRow }
  /** The Idempotency-Key was used before, for this batch or task and with this request. */
  | { kind: 'exists'; id: string; requestHash: Buffer }

/**
 * The chunk that validates a batch has the id of the batch, so that the caller knows its job. The statement waits for a concurrent
 * request with the same Idempotency-Key. The inserts of tasks do not wait, because they share statements.
 */
const createStatement = {
  name: 'batches_create',
  text: `WITH lock AS MATERIALIZED (
      SELECT pg_advisory_xact_lock(${idempotencyLock('$2::uuid', '$18')}) IS NOT NULL AS got WHERE $18::text IS NOT NULL
    ), remembered AS (
      ${rememberIdempotencyKeys('SELECT $2::uuid AS api_key_id, $18 AS key, $1::uuid AS id, $19::bytea AS request_hash FROM lock WHERE got')}
    ), b AS (
      INSERT INTO batches AS b (id, api_key_id, surface, endpoint, kind, input_file_id, mapping, options, priority, metadata,
        completion_window, output_expires_seconds, webhook_url, max_cost_usd, created_at, expires_at, traceparent)
      SELECT $1::uuid, $2::uuid, $3::text, $4::text, $5::text, $6::uuid, $7::json, $8::json, $9::text, $10::json, $11::text, $12::int,
        $13::text, $14::numeric, now(), now() + make_interval(secs => $15), $17::text
      WHERE $18::text IS NULL OR EXISTS (SELECT FROM remembered)
      RETURNING b.*
    ), chunk AS (
      INSERT INTO batch_chunks (id, batch_id, step, dispatched_at) SELECT b.id, b.id, 'validate', now() FROM b
    ), ${createOwnBudget('$16')}
    SELECT ${BATCH_COLUMNS} FROM b`,
}

const findStatement = {
  name: 'batches_find_idempotent',
  text: 'SELECT task_id AS id, request_hash FROM idempotency_keys WHERE api_key_id = $1 AND key = $2',
}

/** Accepts a batch. The caller dispatches its `validationJob`; if it does not, the sweeper does. */
export async function createBatch(db: Db, batch: NewBatch): Promise<CreateOutcome> {
  const { idempotency = null } = batch
  const [created] = await db.query<BatchRow>(createStatement, [
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
  if (created) return { kind: 'created', batch: created }
  const [earlier] = await db.query<{ id: string; request_hash: Buffer }>(findStatement, [
    batch.apiKeyId,
    idempotency!.key,
  ])
  // The key may be pruned between the two statements. It is then free.
  return earlier ? { kind: 'exists', id: earlier.id, requestHash: earlier.request_hash } : createBatch(db, batch)
}

/** The job that validates a new batch. */
export const validationJob = ({ id, priority }: Pick<BatchRow, 'id' | 'priority'>): ChunkJob => ({
  id,
  epoch: 0,
  queue: 'batch',
  priority,
})

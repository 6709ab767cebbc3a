import { newId } from '#shared/ids.ts'
import type { Db } from '../pool.ts'
import { IN_CHUNK } from './chunk.ts'
import { createOwnBudget } from './own-budget.ts'
import { readBatch } from './read.ts'

/**
 * Lines that validation rejected (`run_at` infinity) stay failed. A chunk runs again if it has lines to retry, and runs only these.
 * Until it is claimed its totals are those of its other lines; they are written anew when it is done.
 */
const retryStatement = {
  name: 'batches_retry',
  text: `WITH w AS MATERIALIZED (
      SELECT id FROM batches b WHERE b.id = $1 AND (b.status || '') IN ('completed', 'expired', 'cancelled')
        -- A batch that was stopped during validation has only part of its lines.
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
    ), ${createOwnBudget('$3')}
    SELECT (SELECT count(*) FROM lines)::int AS lines FROM b`,
}

export type BatchRetryOutcome =
  | { kind: 'retried'; lines: number }
  /** The batch has not ended, or has no line to retry. */
  | { kind: 'nothing_to_retry' }
  | { kind: 'not_found' }

/**
 * Retries the lines of an ended batch that failed, expired or were cancelled. The caller or the sweeper dispatches the chunks with
 * `dispatchNextChunks`.
 * @param windowSeconds time until the new deadline
 */
export async function retryBatch(db: Db, id: string, windowSeconds: number): Promise<BatchRetryOutcome> {
  const [row] = await db.query<{ lines: number }>(retryStatement, [id, windowSeconds, newId()])
  if (row) return { kind: 'retried', lines: row.lines }
  return (await readBatch(db, id)) ? { kind: 'nothing_to_retry' } : { kind: 'not_found' }
}

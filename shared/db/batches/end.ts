import type { Db } from '../pool.ts'
import { insertWebhooks } from '../webhooks/insert.ts'
import { type ChunkOwner, closeChunk } from './close-chunk.ts'
import { DELETE_OWN_BUDGET } from './own-budget.ts'
import type { BatchStatus } from './row.ts'

const endStatement = {
  name: 'batches_end',
  text: `WITH ${closeChunk()}, s AS MATERIALIZED (
      SELECT c.batch_id, coalesce(sum(r.succeeded), 0) AS succeeded, coalesce(sum(r.failed), 0) AS failed,
        coalesce(sum(r.cancelled), 0) AS cancelled, coalesce(sum(r.expired), 0) AS expired,
        coalesce(sum(r.input_tokens), 0) AS input_tokens, coalesce(sum(r.output_tokens), 0) AS output_tokens,
        coalesce(sum(r.cache_read_tokens), 0) AS cache_read_tokens, coalesce(sum(r.cache_write_tokens), 0) AS cache_write_tokens,
        coalesce(sum(r.reasoning_tokens), 0) AS reasoning_tokens,
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
        cache_read_tokens = s.cache_read_tokens, cache_write_tokens = s.cache_write_tokens, reasoning_tokens = s.reasoning_tokens,
        completed_at = CASE how.status WHEN 'completed' THEN now() END, expired_at = CASE how.status WHEN 'expired' THEN now() END,
        cancelled_at = CASE how.status WHEN 'cancelled' THEN now() END
      FROM how JOIN s ON s.batch_id = how.id WHERE b.id = how.id AND (b.status || '') IN ('finalizing', 'cancelling') RETURNING b.*
    ), ${DELETE_OWN_BUDGET}, notified AS (
      ${insertWebhooks('batch', 'b')}
    )
    SELECT status FROM b`,
}

/**
 * finalizing or cancelling -> completed, expired or cancelled, after the output was written.
 * @returns the status; null: the claim was lost
 */
export async function endBatch(
  db: Db,
  chunk: ChunkOwner,
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

import { newId } from '#shared/ids.ts'
import type { Db } from '../pool.ts'
import type { ChunkJob } from './chunk.ts'
import { LIVE_STATUSES } from './row.ts'

const MAX_FINALIZED = 500

/** A cancelled batch stays `cancelling` while its output is written. */
const finalizeStatement = {
  name: 'batches_finalize',
  text: `WITH b AS (
      UPDATE batches b SET status = CASE b.status WHEN 'cancelling' THEN b.status ELSE 'finalizing' END, finalizing_at = now()
      FROM (
        SELECT r.id FROM batches r WHERE r.status IN ${LIVE_STATUSES}
          AND r.status <> 'finalizing' AND ($1::uuid IS NULL OR r.id = $1)
          AND NOT EXISTS (SELECT FROM batch_chunks c WHERE c.batch_id = r.id AND (c.status || '') <> 'done')
        LIMIT ${MAX_FINALIZED} FOR UPDATE SKIP LOCKED
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

/**
 * Finalizes a batch (null: every batch) whose lines have all ended.
 * @returns the chunks that write the output, for the caller to dispatch
 */
export const finalizeReady = (db: Db, batchId: string | null): Promise<ChunkJob[]> =>
  db.query<ChunkJob>(finalizeStatement, [
    batchId,
    Array.from({ length: batchId === null ? MAX_FINALIZED : 1 }, () => newId()),
  ])

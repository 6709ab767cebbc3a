import type { Db } from '../pool.ts'
import { insertWebhooks } from '../webhooks/insert.ts'
import { EXHAUSTED } from './chunk.ts'
import { type ChunkOwner, closeChunk } from './close-chunk.ts'
import { DELETE_OWN_BUDGET } from './own-budget.ts'
import type { BatchProblem } from './row.ts'

/** The lines that validation has written so far are left to the sweeper, which fails exhausted chunks some at a time. */
const failStatement = {
  name: 'batches_fail',
  text: `WITH ${closeChunk()}, b AS (
      UPDATE batches b SET status = 'failed', failed_at = now(), errors = $4
      FROM c WHERE b.id = c.batch_id AND (b.status || '') IN ('validating', 'finalizing', 'cancelling') RETURNING b.*
    ), left_over AS (
      UPDATE batch_chunks r SET status = 'running', worker_id = NULL, claims = ${EXHAUSTED}
      FROM b WHERE r.batch_id = b.id AND r.step = 'run' AND (r.status || '') = 'waiting'
    ), ${DELETE_OWN_BUDGET}, notified AS (
      ${insertWebhooks('batch', 'b')}
    )
    SELECT id FROM b`,
}

/** validating, finalizing or cancelling -> failed. Its open lines fail too. @returns false: the claim was lost */
export const failBatch = async (db: Db, chunk: ChunkOwner, errors: BatchProblem[]): Promise<boolean> =>
  (await db.query(failStatement, [chunk.id, chunk.epoch, chunk.workerId, JSON.stringify(errors)])).length > 0

import { LIVENESS } from '#shared/process/liveness.ts'
import type { Db } from '../pool.ts'
import { isDead } from '../workers.ts'
import { type ChunkJob, type ChunkStep, JOB_COLUMNS } from './chunk.ts'

const takeOverStatement = {
  name: 'chunks_take_over',
  text: `WITH dead AS MATERIALIZED (
      SELECT c.id, c.batch_id, c.step, c.epoch, c.worker_id, c.claims FROM batch_chunks c LEFT JOIN workers w ON w.id = c.worker_id
      WHERE c.status = 'running' AND (w.id IS NULL OR ${isDead('$3')}) LIMIT $1
    ), taken AS (
      UPDATE batch_chunks c SET status = 'waiting', epoch = c.epoch + 1, worker_id = NULL, dispatched_at = now()
      FROM dead d JOIN batches b ON b.id = d.batch_id
      WHERE c.id = d.id AND c.epoch = d.epoch AND c.worker_id = d.worker_id AND (c.status || '') = 'running' AND d.claims < $2
      RETURNING ${JOB_COLUMNS}
    )
    SELECT id, epoch, queue, priority, false AS exhausted, NULL AS batch_id, NULL AS step, false AS failed FROM taken
    UNION ALL SELECT d.id, d.epoch, 'batch', '', true, d.batch_id, d.step, b.status = 'failed'
      FROM dead d JOIN batches b ON b.id = d.batch_id WHERE d.claims >= $2`,
}

/** `failed`: its batch has failed, so that no worker may run the chunk. */
export type ExhaustedChunk = { id: string; epoch: number; batch_id: string; step: ChunkStep; failed: boolean }

/**
 * Takes over the chunks of dead processes. The caller dispatches the `taken` ones. `exhausted` chunks were claimed `maxClaims`
 * times without being done, or belong to a failed batch; the caller fails them.
 */
export async function takeOverDeadChunks(
  db: Db,
  limit: number,
  maxClaims: number,
  deadAfterMs: number = LIVENESS.deadAfterMs,
): Promise<{ taken: ChunkJob[]; exhausted: ExhaustedChunk[] }> {
  const rows = await db.query<ChunkJob & ExhaustedChunk & { exhausted: boolean }>(takeOverStatement, [
    limit,
    maxClaims,
    deadAfterMs,
  ])
  return { taken: rows.filter(row => !row.exhausted), exhausted: rows.filter(row => row.exhausted) }
}

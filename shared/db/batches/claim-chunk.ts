import type { Db } from '../pool.ts'
import { type ChunkJob, type ChunkStep, JOB_COLUMNS } from './chunk.ts'

export type ChunkClaim = { id: string; epoch: number; workerId: string }

export type ClaimedChunk = {
  id: string
  batch_id: string
  step: ChunkStep
  priority: string
  claims: number
  traceparent: string | null
}

const claimStatement = {
  name: 'chunks_claim',
  text: `UPDATE batch_chunks c SET status = 'running', worker_id = $3, claims = c.claims + (c.status = 'waiting')::int,
      started_at = coalesce(c.started_at, now())
    FROM batches b
    WHERE c.id = $1 AND c.epoch = $2 AND b.id = c.batch_id
      AND ((c.status || '') = 'waiting' OR (c.status || '') = 'running' AND c.worker_id = $3)
      AND CASE c.step WHEN 'validate' THEN b.status = 'validating' WHEN 'run' THEN b.status = 'in_progress'
        ELSE b.status IN ('finalizing', 'cancelling') END
    RETURNING c.id, c.batch_id, c.step, b.priority, c.claims, b.traceparent`,
}

/** @returns null: the dispatch is outdated, or the batch has moved on */
export const claimChunk = async (db: Db, claim: ChunkClaim): Promise<ClaimedChunk | null> =>
  (await db.query<ClaimedChunk>(claimStatement, [claim.id, claim.epoch, claim.workerId]))[0] ?? null

/** The chunks that a worker holds and should continue. */
export const listHeldChunks = (db: Db, workerId: string): Promise<{ id: string; epoch: number }[]> =>
  db.query(
    {
      name: 'chunks_held',
      text: `SELECT c.id, c.epoch FROM batch_chunks c JOIN batches b ON b.id = c.batch_id
        WHERE c.status = 'running' AND c.worker_id = $1
          AND CASE c.step WHEN 'validate' THEN b.status = 'validating' AND b.expires_at > now()
            WHEN 'run' THEN b.status = 'in_progress' AND b.expires_at > now() ELSE true END`,
    },
    [workerId],
  )

const releaseStatement = {
  name: 'chunks_release',
  text: `UPDATE batch_chunks c SET status = 'waiting', epoch = c.epoch + 1, worker_id = NULL,
      dispatched_at = CASE WHEN $4 OR c.step <> 'run' THEN now() END, claims = CASE WHEN $5 THEN c.claims ELSE 0 END
    FROM batches b WHERE c.id = $1 AND c.epoch = $2 AND (c.status || '') = 'running' AND c.worker_id = $3 AND b.id = c.batch_id
    RETURNING ${JOB_COLUMNS}`,
}

/**
 * Returns a claimed chunk under a new epoch.
 * @param how `dispatched`: the caller dispatches the returned job. Otherwise a range of lines waits for its batch's turn, and the
 * sweeper dispatches the other steps. `failed`: the claim counts against the limit
 * @returns null: the claim was lost
 */
export const releaseChunk = async (
  db: Db,
  claim: ChunkClaim,
  how: { dispatched: boolean; failed?: boolean },
): Promise<ChunkJob | null> => {
  const { id, epoch, workerId } = claim
  const values = [id, epoch, workerId, how.dispatched, how.failed ?? false]
  return (await db.query<ChunkJob>(releaseStatement, values))[0] ?? null
}

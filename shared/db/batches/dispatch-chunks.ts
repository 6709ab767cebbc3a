import { LIVENESS } from '#shared/process/liveness.ts'
import { DISPATCH_GRACE } from '../dispatches.ts'
import type { Db } from '../pool.ts'
import { isAlive } from '../workers.ts'
import { CHUNK_CONCURRENCY, type ChunkJob, type ChunkStep, JOB_COLUMNS } from './chunk.ts'
import { LIVE_STATUSES } from './row.ts'

/** Chunks of each live batch that may be queued or running, however many batches there are. */
const MIN_DISPATCHED = 2

const dispatchNextStatement = {
  name: 'chunks_dispatch_next',
  text: `WITH live AS MATERIALIZED (
      SELECT b.id, b.priority FROM batches b WHERE b.status IN ${LIVE_STATUSES} AND b.status = 'in_progress' AND b.expires_at > now()
    ), most AS MATERIALIZED (
      SELECT greatest(${MIN_DISPATCHED}, ceil(${CHUNK_CONCURRENCY}.0 * (
        SELECT count(*) FROM workers w WHERE 'batch' = ANY(w.queues) AND ${isAlive('$2')}
      ) / greatest(1, (SELECT count(*) FROM live))))::int AS n
    )
    UPDATE batch_chunks c SET dispatched_at = now()
    FROM live b CROSS JOIN most CROSS JOIN LATERAL (
      SELECT count(*)::int AS n FROM batch_chunks o WHERE o.batch_id = b.id AND o.step = 'run'
        AND ((o.status || '') = 'running' OR (o.status || '') = 'waiting' AND o.dispatched_at IS NOT NULL)
    ) busy CROSS JOIN LATERAL (
      SELECT w.id FROM batch_chunks w WHERE w.batch_id = b.id AND w.status = 'waiting' AND w.step = 'run' AND w.dispatched_at IS NULL
      ORDER BY w.first_line LIMIT greatest(0, most.n - busy.n) FOR UPDATE SKIP LOCKED
    ) next
    WHERE ($1::uuid IS NULL OR b.id = $1) AND c.id = next.id
    RETURNING ${JOB_COLUMNS}`,
}

/**
 * Marks the next chunks of a batch (null: of all batches) as dispatched. Each batch has only its share of the workers' slots in the
 * queue, so that all batches advance. The caller dispatches the chunks.
 */
export const dispatchNextChunks = (
  db: Db,
  batchId: string | null,
  deadAfterMs: number = LIVENESS.deadAfterMs,
): Promise<ChunkJob[]> => db.query<ChunkJob>(dispatchNextStatement, [batchId, deadAfterMs])

/** Chunks marked as dispatched. There are few, because each batch has only its share in the queue. */
export const listDispatchedChunks = (db: Db): Promise<ChunkJob[]> =>
  db.query<ChunkJob>({
    name: 'chunks_dispatched',
    text: `SELECT ${JOB_COLUMNS} FROM batches b CROSS JOIN LATERAL (
        SELECT id, epoch FROM batch_chunks c
        WHERE c.batch_id = b.id AND c.status = 'waiting' AND c.dispatched_at < now() - ${DISPATCH_GRACE}
      ) c WHERE b.status IN ${LIVE_STATUSES}`,
  })

/** A waiting chunk of a batch that was cancelled or has expired. `ending`: the status for its lines. */
export type StoppedChunk = { id: string; epoch: number; step: ChunkStep; ending: 'cancelled' | 'expired' }

/** @returns at most `limit` chunks */
export const listStoppedChunks = (db: Db, limit: number): Promise<StoppedChunk[]> =>
  db.query<StoppedChunk>(
    {
      name: 'chunks_stopped',
      text: `SELECT c.id, c.epoch, c.step, CASE WHEN b.status = 'cancelling' THEN 'cancelled' ELSE 'expired' END AS ending
        FROM batches b CROSS JOIN LATERAL (
          SELECT id, epoch, step FROM batch_chunks c WHERE c.batch_id = b.id AND c.status = 'waiting' AND c.step <> 'finalize'
          ORDER BY c.first_line LIMIT $1
        ) c
        WHERE b.status IN ${LIVE_STATUSES}
          AND (b.status = 'cancelling' OR b.status IN ('validating', 'in_progress') AND b.expires_at <= now())
        LIMIT $1`,
    },
    [limit],
  )

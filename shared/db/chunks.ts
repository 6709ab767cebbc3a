import type { Db } from './pool.ts'
import type { Dispatchable } from './tasks.ts'
import { DEAD, DEAD_AFTER_SECONDS } from './workers.ts'

/**
 * A chunk is work on a batch: `validate` reads its input, `run` runs a range of its lines, `finalize` writes its output. It lives as
 * a task does: dispatched, claimed by compare-and-set on its epoch, taken over when its worker dies.
 */
export type Step = 'validate' | 'run' | 'finalize'
export type ChunkJob = Dispatchable & { queue: 'batch' }
export type Claim = { id: string; epoch: number; workerId: string }

/** Chunks that one worker process runs at a time. */
export const CHUNKS_AT_ONCE = 4
/** Of each live batch so many may be in the queue or in workers' hands, however many batches there are. */
const LEAST_BUSY = 2

/** Claims of a chunk that are more than any limit: it is to be given up. */
export const HOPELESS = 32_767

const LIVE_STATUS = "('validating', 'in_progress', 'finalizing', 'cancelling')"
/** For an UPDATE of batch_chunks c that joins its batch b. */
const JOB = "c.id, c.epoch, 'batch' AS queue, b.priority"

export type ClaimedChunk = {
  id: string
  batch_id: string
  step: Step
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

/** @returns null: that dispatch has been overtaken, or the batch has moved on */
export const claimChunk = async (db: Db, claim: Claim): Promise<ClaimedChunk | null> =>
  (await db.query<ClaimedChunk>(claimStatement, [claim.id, claim.epoch, claim.workerId]))[0] ?? null

/** Those among a worker's chunks that are still its to go on with. */
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
    RETURNING ${JOB}`,
}

/**
 * Gives a claimed chunk back, under a new epoch. `dispatched`: the caller is to dispatch what is returned; else a range of lines
 * waits for its turn, and anything else for the sweeper to find that the queue has it not. `failed`: the claim counts as one that led to nothing.
 * @returns null: the claim was lost
 */
export const releaseChunk = async (
  db: Db,
  claim: Claim,
  how: { dispatched: boolean; failed?: boolean },
): Promise<ChunkJob | null> =>
  (
    await db.query<ChunkJob>(releaseStatement, [
      claim.id,
      claim.epoch,
      claim.workerId,
      how.dispatched,
      how.failed ?? false,
    ])
  )[0] ?? null

/** Sums over the lines `t` of chunks `c`: what became of them, what they used and cost. */
export const LINE_SUMS = `count(*) FILTER (WHERE t.status = 'succeeded')::int AS succeeded,
      count(*) FILTER (WHERE t.status = 'failed')::int AS failed, count(*) FILTER (WHERE t.status = 'cancelled')::int AS cancelled,
      count(*) FILTER (WHERE t.status = 'expired')::int AS expired, count(*) FILTER (WHERE t.status IN ('queued', 'running'))::int AS open,
      coalesce(sum(a.input_tokens), 0)::bigint AS input_tokens, coalesce(sum(a.output_tokens), 0)::bigint AS output_tokens,
      coalesce(sum(a.cost_usd), 0) AS cost_usd`
export const LINES_OF_CHUNK = `tasks t LEFT JOIN LATERAL (
      SELECT sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd
      FROM attempts WHERE task_id = t.id
    ) a ON t.attempts > 0`
export const IN_CHUNK = 't.batch_id = c.batch_id AND t.line BETWEEN c.first_line AND c.last_line'

const finishStatement = {
  name: 'chunks_finish',
  text: `WITH c AS MATERIALIZED (
      SELECT * FROM batch_chunks c WHERE c.id = $1 AND c.epoch = $2 AND (c.status || '') <> 'done'
        AND ($3::uuid IS NULL OR (c.status || '') = 'running' AND c.worker_id = $3) FOR UPDATE
    ), s AS MATERIALIZED (
      SELECT c.id, l.* FROM c CROSS JOIN LATERAL (SELECT ${LINE_SUMS} FROM ${LINES_OF_CHUNK} WHERE ${IN_CHUNK}) l
    ), done AS (
      UPDATE batch_chunks c SET status = 'done', worker_id = NULL, finished_at = now(), succeeded = s.succeeded, failed = s.failed,
        cancelled = s.cancelled, expired = s.expired, input_tokens = s.input_tokens, output_tokens = s.output_tokens, cost_usd = s.cost_usd
      FROM s WHERE c.id = s.id AND s.open = 0 RETURNING c.id
    )
    SELECT s.succeeded, s.failed, s.cancelled, s.expired, s.open FROM s`,
}

export type Counts = { succeeded: number; failed: number; cancelled: number; expired: number }

/**
 * Writes down what became of a chunk's lines, all of which have ended. `workerId` null: whoever holds it.
 * @returns its counts, how many lines are still `open` (then nothing is written), or null: it is not this caller's to finish
 */
export const finishChunk = async (
  db: Db,
  chunk: { id: string; epoch: number; workerId: string | null },
): Promise<(Counts & { open: number }) | null> =>
  (await db.query<Counts & { open: number }>(finishStatement, [chunk.id, chunk.epoch, chunk.workerId]))[0] ?? null

const topUpStatement = {
  name: 'chunks_top_up',
  text: `WITH live AS MATERIALIZED (
      SELECT b.id, b.priority FROM batches b WHERE b.status IN ${LIVE_STATUS} AND b.status = 'in_progress' AND b.expires_at > now()
    ), most AS MATERIALIZED (
      SELECT greatest(${LEAST_BUSY}, ceil(${CHUNKS_AT_ONCE}.0 * (
        SELECT count(*) FROM workers WHERE 'batch' = ANY(queues) AND beat_at > now() - interval '${DEAD_AFTER_SECONDS} seconds'
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
    RETURNING ${JOB}`,
}

/**
 * Takes the next chunks of a batch, or of all, as many as it has room for: batches take turns, since each has only its share of
 * the workers' slots in the queue. The caller is to dispatch them.
 */
export const topUp = (db: Db, batchId: string | null): Promise<ChunkJob[]> =>
  db.query<ChunkJob>(topUpStatement, [batchId])

const takeOverStatement = {
  name: 'chunks_take_over',
  text: `WITH dead AS MATERIALIZED (
      SELECT c.id, c.batch_id, c.step, c.epoch, c.worker_id, c.claims FROM batch_chunks c LEFT JOIN workers w ON w.id = c.worker_id
      WHERE c.status = 'running' AND (w.id IS NULL OR ${DEAD}) LIMIT $1
    ), taken AS (
      UPDATE batch_chunks c SET status = 'waiting', epoch = c.epoch + 1, worker_id = NULL, dispatched_at = now()
      FROM dead d JOIN batches b ON b.id = d.batch_id
      WHERE c.id = d.id AND c.epoch = d.epoch AND c.worker_id = d.worker_id AND (c.status || '') = 'running' AND d.claims < $2
      RETURNING ${JOB}
    )
    SELECT id, epoch, queue, priority, false AS hopeless, NULL AS batch_id, NULL AS step, false AS failed FROM taken
    UNION ALL SELECT d.id, d.epoch, 'batch', '', true, d.batch_id, d.step, b.status = 'failed'
      FROM dead d JOIN batches b ON b.id = d.batch_id WHERE d.claims >= $2`,
}

/** `failed`: its batch has, which is why nobody is to do it. */
export type HopelessChunk = { id: string; epoch: number; batch_id: string; step: Step; failed: boolean }

/**
 * Takes the chunks of dead processes away. The caller is to dispatch those that were `taken`; `hopeless` ones have been
 * claimed `maxClaims` times without being done, or are of a batch that has failed, and are left for it to give up.
 */
export async function takeOverDeadChunks(
  db: Db,
  limit: number,
  maxClaims: number,
): Promise<{ taken: ChunkJob[]; hopeless: HopelessChunk[] }> {
  const rows = await db.query<ChunkJob & HopelessChunk & { hopeless: boolean }>(takeOverStatement, [limit, maxClaims])
  return { taken: rows.filter(row => !row.hopeless), hopeless: rows.filter(row => row.hopeless) }
}

/** Long enough for a dispatch that is on its way to arrive or to fail. */
const SETTLED = "interval '3 seconds'"

/** Chunks that say that they are in the queue. There are few: each batch has only its share there. */
export const listDispatchedChunks = (db: Db): Promise<ChunkJob[]> =>
  db.query<ChunkJob>({
    name: 'chunks_dispatched',
    text: `SELECT ${JOB} FROM batches b CROSS JOIN LATERAL (
        SELECT id, epoch FROM batch_chunks c
        WHERE c.batch_id = b.id AND c.status = 'waiting' AND c.dispatched_at < now() - ${SETTLED}
      ) c WHERE b.status IN ${LIVE_STATUS}`,
  })

/** A batch that was cancelled or ran out of time: its lines are to end. */
export type StoppedChunk = { id: string; epoch: number; step: Step; ending: 'cancelled' | 'expired' }

/** Chunks in nobody's hands of batches that go no further. */
export const listStoppedChunks = (db: Db, limit: number): Promise<StoppedChunk[]> =>
  db.query<StoppedChunk>(
    {
      name: 'chunks_stopped',
      text: `SELECT c.id, c.epoch, c.step, CASE WHEN b.status = 'cancelling' THEN 'cancelled' ELSE 'expired' END AS ending
        FROM batches b CROSS JOIN LATERAL (
          SELECT id, epoch, step FROM batch_chunks c WHERE c.batch_id = b.id AND c.status = 'waiting' AND c.step <> 'finalize'
          ORDER BY c.first_line LIMIT $1
        ) c
        WHERE b.status IN ${LIVE_STATUS}
          AND (b.status = 'cancelling' OR b.status IN ('validating', 'in_progress') AND b.expires_at <= now())
        LIMIT $1`,
    },
    [limit],
  )

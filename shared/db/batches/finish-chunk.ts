import type { Db } from '../pool.ts'
import { IN_CHUNK, LINE_SUMS, LINES_OF_CHUNK, type LineCounts } from './chunk.ts'
import type { ChunkOwner } from './close-chunk.ts'

const finishStatement = {
  name: 'chunks_finish',
  text: `WITH c AS MATERIALIZED (
      SELECT * FROM batch_chunks c WHERE c.id = $1 AND c.epoch = $2 AND (c.status || '') <> 'done'
        AND ($3::uuid IS NULL OR (c.status || '') = 'running' AND c.worker_id = $3) FOR UPDATE
    ), s AS MATERIALIZED (
      SELECT c.id, l.* FROM c CROSS JOIN LATERAL (SELECT ${LINE_SUMS} FROM ${LINES_OF_CHUNK} WHERE ${IN_CHUNK}) l
    ), done AS (
      UPDATE batch_chunks c SET status = 'done', worker_id = NULL, finished_at = now(), succeeded = s.succeeded, failed = s.failed,
        cancelled = s.cancelled, expired = s.expired, input_tokens = s.input_tokens, output_tokens = s.output_tokens, cost_usd = s.cost_usd,
        cache_read_tokens = s.cache_read_tokens, cache_write_tokens = s.cache_write_tokens, reasoning_tokens = s.reasoning_tokens
      FROM s WHERE c.id = s.id AND s.open = 0 RETURNING c.id
    )
    SELECT s.succeeded, s.failed, s.cancelled, s.expired, s.open FROM s`,
}

/**
 * Marks a chunk as done and writes the totals of its lines, if all of them have ended.
 * @returns the counts, with `open` lines (nothing is written if there are any); null: the caller does not own the chunk
 */
export const finishChunk = async (db: Db, chunk: ChunkOwner): Promise<(LineCounts & { open: number }) | null> =>
  (await db.query<LineCounts & { open: number }>(finishStatement, [chunk.id, chunk.epoch, chunk.workerId]))[0] ?? null

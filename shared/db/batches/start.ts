import type { Db } from '../pool.ts'
import { type ChunkOwner, closeChunk } from './close-chunk.ts'

/** Checks that each line is in exactly one chunk: a line in none would never run, and a line in two would count twice. */
const startStatement = {
  name: 'batches_start',
  text: `WITH ranges AS MATERIALIZED (
      SELECT c.first_line > coalesce(lag(c.last_line) OVER (ORDER BY c.first_line), 0) AS apart,
        (SELECT count(*) FROM tasks t WHERE t.batch_id = c.batch_id AND t.line BETWEEN c.first_line AND c.last_line) AS lines
      FROM batch_chunks c WHERE c.batch_id = (SELECT v.batch_id FROM batch_chunks v WHERE v.id = $1) AND c.step = 'run'
    ), whole AS MATERIALIZED (
      SELECT coalesce(bool_and(apart) AND sum(lines) = $4::int, false) AND $4::int = (
        SELECT count(*) FROM tasks t WHERE t.batch_id = (SELECT v.batch_id FROM batch_chunks v WHERE v.id = $1)
      ) AS whole FROM ranges
    ), ${closeChunk('(SELECT whole FROM whole)')}, b AS (
      UPDATE batches b SET status = 'in_progress', in_progress_at = now(), total = $4, bound_usd = $5, model = $6
      FROM c WHERE b.id = c.batch_id AND (b.status || '') = 'validating' RETURNING b.id
    )
    SELECT w.whole, b.id IS NOT NULL AS started FROM whole w LEFT JOIN b ON true`,
}

/**
 * validating -> in_progress, after all lines have been written.
 * @returns `uneven`: some line is not in exactly one chunk, and nothing has changed; `lost`: the claim was lost, or the batch has
 * moved on
 */
export async function startBatch(
  db: Db,
  chunk: ChunkOwner,
  found: { total: number; boundUsd: string | null; model: string | null },
): Promise<'started' | 'uneven' | 'lost'> {
  const [row] = await db.query<{ whole: boolean; started: boolean }>(startStatement, [
    chunk.id,
    chunk.epoch,
    chunk.workerId,
    found.total,
    found.boundUsd,
    found.model,
  ])
  if (row?.started) return 'started'
  return row?.whole ? 'lost' : 'uneven'
}

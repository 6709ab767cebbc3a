/** `workerId` null: the chunk may be claimed by any worker or none. */
export type ChunkOwner = { id: string; epoch: number; workerId: string | null }

/** The common table expression `c`: marks a chunk ($1 id, $2 epoch, $3 worker id or NULL) as done. */
export const closeChunk = (condition = 'true'): string => `c AS (
      UPDATE batch_chunks c SET status = 'done', worker_id = NULL, finished_at = now()
      WHERE c.id = $1 AND c.epoch = $2 AND (c.status || '') <> 'done'
        AND ($3::uuid IS NULL OR (c.status || '') = 'running' AND c.worker_id = $3) AND ${condition}
      RETURNING c.batch_id
    )`

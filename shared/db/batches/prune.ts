import { daysAgo, idBefore } from '../age.ts'
import type { Db } from '../pool.ts'

const pruneStatement = {
  name: 'batches_prune',
  text: `WITH old AS MATERIALIZED (
      SELECT b.id FROM batches b WHERE b.id < ${idBefore('$1')}
        AND greatest(b.completed_at, b.failed_at, b.expired_at, b.cancelled_at) < ${daysAgo('$1')}
        AND (b.status || '') IN ('completed', 'failed', 'expired', 'cancelled')
        AND NOT EXISTS (SELECT FROM tasks t WHERE t.batch_id = b.id)
      ORDER BY b.id LIMIT $2
    ), chunks AS (DELETE FROM batch_chunks c USING old WHERE c.batch_id = old.id)
    DELETE FROM batches b USING old WHERE b.id = old.id RETURNING b.id`,
}

/** Deletes batches that ended more than `days` ago, with their chunks. @returns how many, at most `limit` */
export const pruneBatches = async (db: Db, days: number, limit: number): Promise<number> =>
  (await db.query(pruneStatement, [days, limit])).length

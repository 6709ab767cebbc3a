import { daysAgo, idBefore } from '../age.ts'
import type { Db } from '../pool.ts'
import { STATUS } from './row.ts'

const pruneStatement = {
  name: 'tasks_prune',
  text: `WITH old AS MATERIALIZED (
      SELECT t.id FROM tasks t
      WHERE t.id < ${idBefore('$1')} AND t.finished_at < ${daysAgo('$1')} AND ${STATUS} NOT IN ('queued', 'running')
        AND NOT EXISTS (SELECT FROM batches b WHERE b.id = t.batch_id
          AND b.status IN ('validating', 'in_progress', 'finalizing', 'cancelling'))
      ORDER BY t.id LIMIT $2
    ), attempts AS (DELETE FROM attempts a USING old WHERE a.task_id = old.id)
    , reviews AS (DELETE FROM reviews r USING old WHERE r.task_id = old.id)
    , feedback AS (DELETE FROM feedback f USING old WHERE f.task_id = old.id)
    , decisions AS (DELETE FROM review_decisions d USING old WHERE d.task_id = old.id)
    DELETE FROM tasks t USING old WHERE t.id = old.id RETURNING t.id`,
}

/** Deletes tasks that ended more than `days` ago, with their attempts and reviews. @returns how many, at most `limit` */
export const pruneTasks = async (db: Db, days: number, limit: number): Promise<number> =>
  (await db.query(pruneStatement, [days, limit])).length

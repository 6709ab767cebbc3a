import { LIVENESS } from '#shared/process/liveness.ts'
import { bookSettled, SET_UNKNOWN, SETTLED_COLUMNS } from '../attempts.ts'
import type { Db } from '../pool.ts'
import { STATUS } from '../tasks/row.ts'
import { isDead } from '../workers.ts'

const takeOverStatement = {
  name: 'claims_take_over',
  text: `WITH dead AS MATERIALIZED (
      SELECT t.id, t.epoch, t.worker_id, t.claims, t.attempts FROM tasks t LEFT JOIN workers w ON w.id = t.worker_id
      WHERE t.status = 'running' AND (w.id IS NULL OR ${isDead('$3')})
      LIMIT $1
    ), settled AS (
      UPDATE attempts a SET ${SET_UNKNOWN}
      FROM dead d WHERE a.task_id = d.id AND a.n = d.attempts AND a.outcome = 'started'
      RETURNING ${SETTLED_COLUMNS}
    ), ${bookSettled()}, requeued AS (
      UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, worker_id = NULL,
        dispatched_at = CASE WHEN t.batch_id IS NOT NULL THEN 'infinity'::timestamptz END
      FROM dead d, (SELECT count(*) FROM booked) b
      WHERE t.id = d.id AND t.epoch = d.epoch AND t.worker_id = d.worker_id AND ${STATUS} = 'running' AND d.claims < $2
      RETURNING t.id
    )
    SELECT id, false AS exhausted FROM requeued UNION ALL SELECT id, true FROM dead WHERE claims >= $2`,
}

/**
 * Takes over the claims of dead processes: the attempt becomes `unknown`, and the task is queued under a new epoch. `exhausted`
 * tasks were claimed `maxClaims` times without a settlement; the caller fails them.
 */
export async function takeOverDeadClaims(
  db: Db,
  limit: number,
  maxClaims: number,
  deadAfterMs: number = LIVENESS.deadAfterMs,
): Promise<{ taken: number; exhausted: string[] }> {
  const rows = await db.query<{ id: string; exhausted: boolean }>(takeOverStatement, [limit, maxClaims, deadAfterMs])
  const exhausted = rows.filter(row => row.exhausted).map(row => row.id)
  return { taken: rows.length - exhausted.length, exhausted }
}

/** Longer than the longest CALL_TIMEOUT_SECONDS, plus the time to settle the call. */
const LONGEST_CALL = "interval '65 minutes'"

/** Reads few attempts of live processes: only those started before LONGEST_CALL. */
const orphansStatement = {
  name: 'attempts_orphaned',
  text: `WITH orphaned AS (
      SELECT a.task_id, a.n FROM attempts a LEFT JOIN workers w ON w.id = a.worker_id JOIN tasks t ON t.id = a.task_id
      WHERE a.outcome = 'started' AND (w.id IS NULL OR ${isDead('$2')} OR a.started_at < now() - ${LONGEST_CALL}) AND t.status <> 'running'
        AND (w.id IS NULL OR ${isDead('$2')} OR t.finished_at < now() - ${LONGEST_CALL})
      LIMIT $1 FOR UPDATE OF a SKIP LOCKED
    ), settled AS (
      UPDATE attempts a SET ${SET_UNKNOWN}
      FROM orphaned o WHERE a.task_id = o.task_id AND a.n = o.n AND a.outcome = 'started' RETURNING ${SETTLED_COLUMNS}
    ), ${bookSettled()}
    SELECT n FROM settled`,
}

/**
 * Marks open attempts as `unknown` if their task has ended meanwhile (cancelled, expired) and their process is dead, or their
 * call must be over. @returns how many, at most `limit`
 */
export const closeOrphanedAttempts = async (
  db: Db,
  limit: number,
  deadAfterMs: number = LIVENESS.deadAfterMs,
): Promise<number> => (await db.query(orphansStatement, [limit, deadAfterMs])).length

import { bookSettled, SETTLED_COLUMNS } from '../attempts.ts'
import type { Db } from '../pool.ts'
import type { ClaimRequest } from './admission.ts'

/** Only the claim of this epoch: a later one belongs to another run, whose call may be in flight. */
const abandonStatement = {
  name: 'attempts_abandon',
  text: `WITH settled AS (
      UPDATE attempts a SET outcome = 'aborted', error = $5, cost_usd = 0, settlements = a.settlements + 1, finished_at = now()
      FROM tasks t WHERE a.task_id = $1 AND a.n = $3 AND a.worker_id = $4 AND (a.outcome || '') = 'started'
        AND t.id = a.task_id AND t.epoch = $2 AND t.attempts = a.n
      RETURNING ${SETTLED_COLUMNS}
    ), ${bookSettled()}
    SELECT n FROM settled`,
}
const NOT_MADE = { code: 'aborted', message: 'The task had ended before the call could be made; it was not made.' }

/**
 * Settles an attempt that was never called, at no cost. For a repeated claim that found the task lost: the first try may have
 * been committed. @returns whether there was such an attempt
 */
export const abandonAttempt = async (
  db: Db,
  workerId: string,
  { id, epoch, n }: Pick<ClaimRequest, 'id' | 'epoch' | 'n'>,
): Promise<boolean> => (await db.query(abandonStatement, [id, epoch, n, workerId, JSON.stringify(NOT_MADE)])).length > 0

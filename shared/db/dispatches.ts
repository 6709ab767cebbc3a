import type { Db } from './pool.ts'
import { type Dispatchable, STATUS } from './tasks.ts'

/**
 * The task row is the outbox. `dispatched_at` says when the present epoch was handed to the queue. It is written before
 * that is done, by the statement that makes the row or the epoch, since a mark of its own would be one more write for
 * each task. So it is a presumption, and there are two ways to withdraw it: by the process whose dispatch failed, and,
 * for a process that died, by the sweeper. Dispatching again what the queue has changes nothing.
 */

const takeStatement = {
  name: 'dispatches_take',
  text: `UPDATE tasks t SET dispatched_at = now()
    FROM (
      SELECT id FROM tasks WHERE status = 'queued' AND dispatched_at IS NULL AND run_at <= now()
      ORDER BY run_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) d WHERE t.id = d.id
    RETURNING t.id, t.epoch, t.queue, t.priority`,
}

/** Tasks that are due and in no queue. The caller is to dispatch them. */
export const takeUndispatched = (db: Db, limit: number): Promise<Dispatchable[]> => db.query(takeStatement, [limit])

const withdrawStatement = {
  name: 'dispatches_withdraw',
  text: `UPDATE tasks t SET dispatched_at = NULL
    FROM (
      SELECT t.id FROM unnest($1::uuid[], $2::int[]) AS i(id, epoch) JOIN tasks t ON t.id = i.id AND t.epoch = i.epoch
      WHERE ${STATUS} = 'queued' FOR UPDATE OF t SKIP LOCKED
    ) d WHERE t.id = d.id`,
}

/** Says that these were not dispatched after all. A row that somebody holds at this moment is being dealt with. */
export async function withdrawDispatches(db: Db, tasks: { id: string; epoch: number }[]): Promise<void> {
  await db.query(withdrawStatement, [tasks.map(task => task.id), tasks.map(task => task.epoch)])
}

const forgetStatement = {
  name: 'dispatches_forget',
  text: `UPDATE tasks t SET dispatched_at = NULL
    FROM (
      SELECT id FROM tasks WHERE status = 'queued' AND dispatched_at BETWEEN $1 AND $2
      ORDER BY dispatched_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ) d WHERE t.id = d.id RETURNING t.id`,
}

/**
 * Withdraws the dispatches made between two times (by Postgres's clock), so that the sweeper makes them again.
 * @returns how many there were, at most `limit`
 */
export const forgetDispatches = async (db: Db, from: Date, to: Date, limit: number): Promise<number> =>
  (await db.query(forgetStatement, [from, to, limit])).length

/** Postgres's time, `seconds` ago. */
export const timeAgo = async (db: Db, seconds: number): Promise<Date> => {
  const rows = await db.query<{ at: Date }>(
    { name: 'time_ago', text: 'SELECT now() - make_interval(secs => $1) AS at' },
    [seconds],
  )
  return rows[0]!.at
}

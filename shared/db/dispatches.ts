import type { Db } from './pool.ts'
import { type Dispatchable, STATUS } from './tasks.ts'

/** The task row is the outbox: `dispatched_at` says whether the queue took the present epoch. */

const findStatement = {
  name: 'dispatches_find',
  text: `SELECT id, epoch, queue, priority FROM tasks
    WHERE status = 'queued' AND dispatched_at IS NULL AND run_at <= now() - interval '1 second'
    ORDER BY run_at LIMIT $1`,
}

/** Queued tasks that are due and that nobody has dispatched within the second in which their acceptor should have. */
export const findUndispatched = (db: Db, limit: number): Promise<Dispatchable[]> => db.query(findStatement, [limit])

const markStatement = {
  name: 'dispatches_mark',
  text: `UPDATE tasks t SET dispatched_at = now()
    FROM (
      SELECT t.id FROM unnest($1::uuid[], $2::int[]) AS i(id, epoch) JOIN tasks t ON t.id = i.id AND t.epoch = i.epoch
      WHERE ${STATUS} = 'queued' AND t.dispatched_at IS NULL FOR UPDATE OF t SKIP LOCKED
    ) d WHERE t.id = d.id`,
}

/** Marks what the queue took. A row that a worker holds at this moment needs no mark, hence no waiting for locks. */
export async function markDispatched(db: Db, tasks: Dispatchable[]): Promise<void> {
  await db.query(markStatement, [tasks.map(task => task.id), tasks.map(task => task.epoch)])
}

const forgetStatement = {
  name: 'dispatches_forget',
  text: `UPDATE tasks t SET dispatched_at = NULL
    FROM (
      SELECT id FROM tasks WHERE status = 'queued' AND dispatched_at < now() - make_interval(secs => $1)
      ORDER BY dispatched_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) d WHERE t.id = d.id RETURNING t.id`,
}

/**
 * Forgets dispatches older than `seconds`, so that they are dispatched again; adding a job that the queue still has
 * changes nothing. @returns how many there were
 */
export const forgetDispatches = async (db: Db, seconds: number, limit: number): Promise<number> =>
  (await db.query(forgetStatement, [seconds, limit])).length

import { coalesce } from '#shared/concurrency/coalesce.ts'
import { bookSettled, type Settlement, settleAttempts, settlementValues } from '../attempts.ts'
import { defineColumns } from '../columns.ts'
import { type Db, splitOnError } from '../pool.ts'
import { STATUS } from '../tasks/row.ts'

export type Requeue = {
  id: string
  epoch: number
  /** Milliseconds until the task may run again. */
  delayMs: number
  tries: number
  /** The settlement of the newest attempt, unless it is settled already. */
  settlement: Settlement | null
  /** Whether the worker holds the claim. */
  claimed: boolean
}

const columns = defineColumns<Requeue>([
  ['id', 'uuid', one => one.id],
  ['epoch', 'int', one => one.epoch],
  ['delay_ms', 'float8', one => one.delayMs],
  ['tries', 'int', one => one.tries],
  ['claimed', 'boolean', one => one.claimed],
])

/** $1 is the id of the claiming process. */
const requeueStatement = {
  name: 'tasks_requeue',
  text: `WITH input AS (
      SELECT * FROM ${columns.unnest('i', 2)}
    ), ${settleAttempts(2 + columns.count)}, ${bookSettled()}
    UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, worker_id = NULL, tries = i.tries,
      claims = CASE WHEN i.claimed THEN 0 ELSE t.claims END,
      dispatched_at = CASE WHEN t.batch_id IS NULL THEN now() ELSE 'infinity' END, run_at = now() + i.delay_ms * interval '1 millisecond'
    FROM input i, (SELECT count(*) FROM booked) b WHERE t.id = i.id AND t.epoch = i.epoch
      AND CASE WHEN i.claimed THEN ${STATUS} = 'running' AND t.worker_id = $1 ELSE ${STATUS} = 'queued' END
    RETURNING t.id, t.epoch`,
}

/**
 * Returns a task to the queue: settles its attempt, drops the claim and starts a new epoch. The caller dispatches the new epoch,
 * or runs a line again itself.
 * @returns the new epoch; null: the claim was lost
 */
export const createRequeuer = (db: Db, workerId: string): ((request: Requeue) => Promise<number | null>) =>
  coalesce({
    max: 500,
    splitOnError,
    flush: async items => {
      const rows = await db.query<{ id: string; epoch: number }>(requeueStatement, [
        workerId,
        ...columns.values(items),
        ...settlementValues(items),
      ])
      const byId = new Map(rows.map(row => [row.id, row.epoch]))
      return items.map(item => byId.get(item.id) ?? null)
    },
  })

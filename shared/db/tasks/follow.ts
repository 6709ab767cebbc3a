import { coalesce } from '#shared/concurrency/coalesce.ts'
import { defineColumns } from '../columns.ts'
import { type Db, splitOnError } from '../pool.ts'
import { LEADER_DELAY } from './release.ts'
import { STATUS } from './row.ts'

type Following = { id: string; epoch: number; leaderId: string }
const columns = defineColumns<Following>([
  ['id', 'uuid', one => one.id],
  ['epoch', 'int', one => one.epoch],
  ['leader_id', 'uuid', one => one.leaderId],
])

const followStatement = {
  name: 'tasks_follow',
  text: `WITH i AS (
      SELECT * FROM ${columns.unnest('i', 1)}
    ), leaders AS MATERIALIZED (
      SELECT t.id FROM tasks t WHERE t.id IN (SELECT leader_id FROM i) AND t.leader_id IS NULL
        AND (${STATUS} = 'running' OR ${STATUS} = 'queued' AND t.run_at < now() + ${LEADER_DELAY})
      ORDER BY t.id FOR SHARE
    )
    UPDATE tasks t SET leader_id = i.leader_id, dispatched_at = 'infinity', epoch = t.epoch + 1
    FROM leaders l JOIN i ON i.leader_id = l.id
    WHERE t.id = i.id AND t.epoch = i.epoch AND t.id <> i.leader_id AND ${STATUS} = 'queued' AND t.batch_id IS NULL
      AND NOT EXISTS (SELECT FROM tasks f WHERE f.leader_id = t.id)
    RETURNING t.id`,
}

/**
 * Makes a queued task wait for the answer of another one. The task leaves the queue until its leader ends.
 * @returns false: the leader is not live or not about to call, or the task has moved on or has followers itself
 */
export const createFollower = (db: Db): ((task: Following) => Promise<boolean>) =>
  coalesce({
    max: 200,
    splitOnError,
    flush: async items => {
      const rows = await db.query<{ id: string }>(followStatement, columns.values(items))
      const following = new Set(rows.map(row => row.id))
      return items.map(item => following.has(item.id))
    },
  })

import { defineColumns } from './columns.ts'
import type { Db } from './pool.ts'
import type { Dispatchable } from './tasks/row.ts'

/**
 * The task row is the outbox. A queued row either waits in its key's backlog (`dispatched_at` null) or was sent to the queue at
 * `dispatched_at`. The statement that creates the row or the epoch writes `dispatched_at` in advance, because a separate update
 * would double the writes. The mark may be wrong (the process died, Redis lost the job, the response of the statement was lost), so
 * the sweeper walks the dispatched rows and adds jobs that are missing from the queue.
 *
 * A flow is the unit of fair sharing: the tasks of one key and one priority.
 */

export type Flow = { apiKeyId: string; priority: string }

/** Common table expression: the flows with rows in an index. Reads one entry per flow. */
export const flows = (index: 'IS NULL' | 'IS NOT NULL') => `RECURSIVE flows AS (
    (SELECT api_key_id, priority FROM tasks WHERE status = 'queued' AND dispatched_at ${index} ORDER BY api_key_id, priority LIMIT 1)
    UNION ALL
    SELECT n.api_key_id, n.priority FROM flows f CROSS JOIN LATERAL (
      SELECT api_key_id, priority FROM tasks
      WHERE status = 'queued' AND dispatched_at ${index} AND (api_key_id, priority) > (f.api_key_id, f.priority)
      ORDER BY api_key_id, priority LIMIT 1
    ) n
  )`

const occupiedStatement = {
  name: 'dispatches_occupied',
  text: `WITH ${flows('IS NULL')}
    SELECT f.api_key_id, f.priority, coalesce(k.weight, 1)::int AS weight, o.waiting, o.delayed
    FROM flows f LEFT JOIN api_keys k ON k.id = f.api_key_id CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE run_at <= now())::int AS waiting, count(*) FILTER (WHERE run_at > now())::int AS delayed FROM (
        SELECT run_at FROM tasks
        WHERE status = 'queued' AND dispatched_at IS NOT NULL AND dispatched_at < 'infinity'
          AND api_key_id = f.api_key_id AND priority = f.priority LIMIT $1
      ) d
    ) o`,
}

export type FlowOccupancy = {
  api_key_id: string
  priority: string
  /** Weight of the key among the others. */
  weight: number
  /** Dispatched and due, not claimed. */
  waiting: number
  /** Dispatched for later, after a booking at the gate or a backoff. */
  delayed: number
}

/** The flows with a backlog, and their tasks in the queue. @param most counting stops at this number per flow */
export const readOccupancy = (db: Db, most: number): Promise<FlowOccupancy[]> => db.query(occupiedStatement, [most])

type FlowHeadroom = Flow & { room: number }
const headroomColumns = defineColumns<FlowHeadroom>([
  ['api_key_id', 'uuid', one => one.apiKeyId],
  ['priority', 'text', one => one.priority],
  ['room', 'int', one => one.room],
])

const takeStatement = {
  name: 'dispatches_take',
  text: `UPDATE tasks t SET dispatched_at = now()
    FROM (
      SELECT d.id FROM ${headroomColumns.unnest('f', 1)} CROSS JOIN LATERAL (
        SELECT id FROM tasks
        WHERE status = 'queued' AND dispatched_at IS NULL AND api_key_id = f.api_key_id AND priority = f.priority AND run_at <= now()
        ORDER BY run_at LIMIT f.room FOR UPDATE SKIP LOCKED
      ) d
    ) d WHERE t.id = d.id
    RETURNING t.id, t.epoch, t.queue, t.priority, t.api_key_id`,
}

/** Marks the oldest tasks of each flow's backlog as dispatched, at most `room` per flow. The caller dispatches them. */
export const takeBacklog = (db: Db, headrooms: FlowHeadroom[]): Promise<(Dispatchable & { api_key_id: string })[]> =>
  db.query(takeStatement, headroomColumns.values(headrooms))

const headroomStatement = {
  name: 'dispatches_headroom',
  text: `SELECT (
      SELECT count(*)::int FROM (
        SELECT FROM tasks
        WHERE status = 'queued' AND dispatched_at IS NULL AND api_key_id = $1 AND priority = $2 AND run_at <= now() LIMIT $3
      ) b
    ) AS backlog, (
      SELECT count(*)::int FROM (
        SELECT FROM tasks
        WHERE status = 'queued' AND dispatched_at IS NOT NULL AND dispatched_at < 'infinity' AND api_key_id = $1 AND priority = $2
        LIMIT $3
      ) d
    ) AS dispatched`,
}

/** Tasks of a flow in its backlog and in the queue. @param most counting stops at this number */
export async function readHeadroom(db: Db, flow: Flow, most: number): Promise<{ backlog: number; dispatched: number }> {
  const rows = await db.query<{ backlog: number; dispatched: number }>(headroomStatement, [
    flow.apiKeyId,
    flow.priority,
    most,
  ])
  return rows[0]!
}

/** Position in a walk over the dispatched rows. */
export type DispatchCursor = {
  api_key_id: string
  priority: string
  /** Text, because a Date would lose the microseconds. */
  dispatched_at: string
  id: string
}

/** After this time a dispatch has reached the queue or failed. */
export const DISPATCH_GRACE = "interval '3 seconds'"

const dispatchedStatement = {
  name: 'dispatches_walk',
  // Flow by flow, because each flow may end with a million rows that are dispatched for ever (followers, lines).
  text: `WITH ${flows('IS NOT NULL')}
    SELECT d.id, d.epoch, d.queue, f.priority, f.api_key_id, d.dispatched_at::text AS dispatched_at,
      greatest(0, extract(epoch FROM d.run_at - now()) * 1000)::float8 AS "delayMs"
    FROM (SELECT * FROM flows WHERE (flows.api_key_id, flows.priority) >= ($1, $2)) f CROSS JOIN LATERAL (
      SELECT t.id, t.epoch, t.queue, t.dispatched_at, t.run_at FROM tasks t
      WHERE t.status = 'queued' AND t.dispatched_at IS NOT NULL AND t.dispatched_at < now() - ${DISPATCH_GRACE}
        AND t.api_key_id = f.api_key_id AND t.priority = f.priority
        AND t.dispatched_at >= CASE WHEN (f.api_key_id, f.priority) = ($1, $2) THEN $3::timestamptz ELSE '-infinity' END
        AND ((f.api_key_id, f.priority) > ($1, $2) OR (t.dispatched_at, t.id) > ($3::timestamptz, $4))
      ORDER BY t.dispatched_at, t.id LIMIT $5
    ) d
    ORDER BY f.api_key_id, f.priority, d.dispatched_at, d.id LIMIT $5`,
}

export type Dispatched = Dispatchable & DispatchCursor & { delayMs: number }

/** The next dispatched rows. @param from null: start at the beginning */
export const listDispatched = (db: Db, from: DispatchCursor | null, limit: number): Promise<Dispatched[]> =>
  db.query(dispatchedStatement, [
    from?.api_key_id ?? '00000000-0000-0000-0000-000000000000',
    from?.priority ?? '',
    from?.dispatched_at ?? '-infinity',
    from?.id ?? '00000000-0000-0000-0000-000000000000',
    limit,
  ])

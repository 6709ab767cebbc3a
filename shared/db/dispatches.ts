import type { Db } from './pool.ts'
import type { Dispatchable } from './tasks.ts'

/**
 * The task row is the outbox. A queued row either waits in its key's backlog (`dispatched_at` null) or says when it was
 * handed to the queue. That is written before it is done, by the statement that makes the row or the epoch, since a mark
 * of its own would be one more write for each task. It may turn out wrong (the process died, Redis lost the job, the answer
 * to the statement was lost), so the sweeper goes through what is dispatched and looks whether the queue has it.
 * A flow is what shares come by: the tasks of one key and one priority.
 */

export type Flow = { apiKeyId: string; priority: string }

/** The flows that have rows in the index; reads one entry of each. */
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

export type Occupied = {
  api_key_id: string
  priority: string
  /** The key's share. */
  weight: number
  /** Dispatched and due, not yet claimed. */
  waiting: number
  /** Dispatched for later: booked at a gate, backing off. */
  delayed: number
}

/** The flows that have a backlog, with what they have in the queue; counts at most `most` of each. */
export const readOccupied = (db: Db, most: number): Promise<Occupied[]> => db.query(occupiedStatement, [most])

const takeStatement = {
  name: 'dispatches_take',
  text: `UPDATE tasks t SET dispatched_at = now()
    FROM (
      SELECT d.id FROM unnest($1::uuid[], $2::text[], $3::int[]) AS f(api_key_id, priority, room) CROSS JOIN LATERAL (
        SELECT id FROM tasks
        WHERE status = 'queued' AND dispatched_at IS NULL AND api_key_id = f.api_key_id AND priority = f.priority AND run_at <= now()
        ORDER BY run_at LIMIT f.room FOR UPDATE SKIP LOCKED
      ) d
    ) d WHERE t.id = d.id
    RETURNING t.id, t.epoch, t.queue, t.priority, t.api_key_id`,
}

/** Takes the oldest of each flow's backlog, as many as it has room for. The caller is to dispatch them. */
export const takeBacklog = (
  db: Db,
  rooms: (Flow & { room: number })[],
): Promise<(Dispatchable & { api_key_id: string })[]> =>
  db.query(takeStatement, [rooms.map(one => one.apiKeyId), rooms.map(one => one.priority), rooms.map(one => one.room)])

const roomStatement = {
  name: 'dispatches_room',
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

/** What a flow has waiting here and in the queue, each counted up to `most`. */
export async function readRoom(db: Db, flow: Flow, most: number): Promise<{ backlog: number; dispatched: number }> {
  const rows = await db.query<{ backlog: number; dispatched: number }>(roomStatement, [
    flow.apiKeyId,
    flow.priority,
    most,
  ])
  return rows[0]!
}

/** Where a walk over the dispatched rows has got to. */
export type Position = {
  api_key_id: string
  priority: string
  /** As Postgres writes it: a Date would cut the microseconds off. */
  dispatched_at: string
  id: string
}

/** Long enough for a dispatch that is on its way to arrive or to fail. */
const SETTLED = "interval '3 seconds'"

const dispatchedStatement = {
  name: 'dispatches_walk',
  // Flow by flow: what is dispatched for ever (followers, lines of batches) may be a million rows, at the end of each.
  text: `WITH ${flows('IS NOT NULL')}
    SELECT d.id, d.epoch, d.queue, f.priority, f.api_key_id, d.dispatched_at::text AS dispatched_at,
      greatest(0, extract(epoch FROM d.run_at - now()) * 1000)::float8 AS "delayMs"
    FROM (SELECT * FROM flows WHERE (flows.api_key_id, flows.priority) >= ($1, $2)) f CROSS JOIN LATERAL (
      SELECT t.id, t.epoch, t.queue, t.dispatched_at, t.run_at FROM tasks t
      WHERE t.status = 'queued' AND t.dispatched_at IS NOT NULL AND t.dispatched_at < now() - ${SETTLED}
        AND t.api_key_id = f.api_key_id AND t.priority = f.priority
        AND t.dispatched_at >= CASE WHEN (f.api_key_id, f.priority) = ($1, $2) THEN $3::timestamptz ELSE '-infinity' END
        AND ((f.api_key_id, f.priority) > ($1, $2) OR (t.dispatched_at, t.id) > ($3::timestamptz, $4))
      ORDER BY t.dispatched_at, t.id LIMIT $5
    ) d
    ORDER BY f.api_key_id, f.priority, d.dispatched_at, d.id LIMIT $5`,
}

export type Dispatched = Dispatchable & Position & { delayMs: number }

/** The next rows, after `from`, that say that they are in the queue. null: from the beginning. */
export const listDispatched = (db: Db, from: Position | null, limit: number): Promise<Dispatched[]> =>
  db.query(dispatchedStatement, [
    from?.api_key_id ?? '00000000-0000-0000-0000-000000000000',
    from?.priority ?? '',
    from?.dispatched_at ?? '-infinity',
    from?.id ?? '00000000-0000-0000-0000-000000000000',
    limit,
  ])

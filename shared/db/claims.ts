import { coalesce } from '#shared/coalesce.ts'
import { type Settlement, settlementColumns, settlementValues } from './attempts.ts'
import { type Db, itemsToBlame } from './pool.ts'
import { STATUS } from './tasks.ts'
import { DEAD } from './workers.ts'

/** `n`: the number of the attempt to start, one above the newest. */
export type ClaimRequest = { id: string; epoch: number; n: number; provider: string; model: string }

/**
 * Both statements below may be repeated when it is not known whether they were committed: the second time they find
 * their own work done and answer the same.
 */
const STARTED = `started AS (
    INSERT INTO attempts (task_id, n, worker_id, provider, model, started_at)
    SELECT id, n, $6, provider, model, now() FROM claimed
    ON CONFLICT DO NOTHING
  )`

const claimStatement = {
  name: 'tasks_claim',
  text: `WITH claimed AS (
      UPDATE tasks t SET status = 'running', worker_id = $6, claims = t.claims + (t.status = 'queued')::int, attempts = i.n,
        started_at = coalesce(t.started_at, now())
      FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[]) AS i(id, epoch, n, provider, model)
      WHERE t.id = i.id AND t.epoch = i.epoch AND t.deadline_at > now()
        AND (${STATUS} = 'queued' AND t.attempts = i.n - 1 OR ${STATUS} = 'running' AND t.worker_id = $6 AND t.attempts = i.n)
      RETURNING t.id, i.n, i.provider, i.model
    ), ${STARTED}
    SELECT id FROM claimed`,
}

/** Takes queued tasks for `workerId` and writes the `started` attempt of each; false: it was not there to be claimed. */
export function createClaimer(db: Db, workerId: string): (request: ClaimRequest) => Promise<boolean> {
  return coalesce<ClaimRequest, boolean>({
    max: 500,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ id: string }>(claimStatement, [...claimValues(items), workerId])
      const claimed = new Set(rows.map(row => row.id))
      return items.map(item => claimed.has(item.id))
    },
  })
}

const claimValues = (items: ClaimRequest[]) => [
  items.map(item => item.id),
  items.map(item => item.epoch),
  items.map(item => item.n),
  items.map(item => item.provider),
  items.map(item => item.model),
]

const nextStatement = {
  name: 'tasks_next_attempt',
  text: `WITH ${settlementColumns(8)}, claimed AS (
      UPDATE tasks t SET attempts = i.n, tries = i.tries, claims = 1
      FROM unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::text[], $7::int[]) AS i(id, epoch, n, provider, model, tries)
      WHERE t.id = i.id AND t.epoch = i.epoch AND ${STATUS} = 'running' AND t.worker_id = $6
        AND t.attempts IN (i.n - 1, i.n)
      RETURNING t.id, i.n, i.provider, i.model
    ), ${STARTED}
    SELECT id FROM claimed`,
}

export type NextRequest = ClaimRequest & { tries: number; settlement: Settlement }

/** Settles the attempt that failed and starts the next one under the same claim; false: the claim was lost. */
export function createNextAttempt(db: Db, workerId: string): (request: NextRequest) => Promise<boolean> {
  return coalesce<NextRequest, boolean>({
    max: 500,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ id: string }>(nextStatement, [
        ...claimValues(items),
        workerId,
        items.map(item => item.tries),
        ...settlementValues(items.map(item => ({ taskId: item.id, ...item.settlement }))),
      ])
      const claimed = new Set(rows.map(row => row.id))
      return items.map(item => claimed.has(item.id))
    },
  })
}

export type Requeue = {
  id: string
  epoch: number
  /** From when on it may run again, milliseconds from now. */
  delayMs: number
  tries: number
  /** null: it was still queued, nothing had been claimed. */
  settlement: Settlement | null
}

const requeueStatement = {
  name: 'tasks_requeue',
  text: `WITH input AS (
      SELECT * FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::int[], $5::boolean[]) AS i(id, epoch, delay_ms, tries, claimed)
    ), ${settlementColumns(7)}
    UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, worker_id = NULL, claims = 0, tries = i.tries,
      dispatched_at = now(), run_at = now() + i.delay_ms * interval '1 millisecond'
    FROM input i WHERE t.id = i.id AND t.epoch = i.epoch
      AND CASE WHEN i.claimed THEN ${STATUS} = 'running' AND t.worker_id = $6 ELSE ${STATUS} = 'queued' END
    RETURNING t.id, t.epoch`,
}

/**
 * Gives a task back to wait: settles its attempt, drops the claim and opens a new epoch, which the caller is to dispatch.
 * @returns the new epoch, or null if the claim was lost
 */
export function createRequeuer(db: Db, workerId: string): (request: Requeue) => Promise<number | null> {
  return coalesce<Requeue, number | null>({
    max: 500,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ id: string; epoch: number }>(requeueStatement, [
        items.map(item => item.id),
        items.map(item => item.epoch),
        items.map(item => item.delayMs),
        items.map(item => item.tries),
        items.map(item => item.settlement !== null),
        workerId,
        ...settlementValues(items.map(item => item.settlement && { taskId: item.id, ...item.settlement })),
      ])
      const byId = new Map(rows.map(row => [row.id, row.epoch]))
      return items.map(item => byId.get(item.id) ?? null)
    },
  })
}

const takeOverStatement = {
  name: 'claims_take_over',
  text: `WITH dead AS (
      SELECT t.id, t.claims, t.attempts FROM tasks t LEFT JOIN workers w ON w.id = t.worker_id
      WHERE t.status = 'running' AND (w.id IS NULL OR ${DEAD})
      LIMIT $1 FOR UPDATE OF t SKIP LOCKED
    ), unknown AS (
      UPDATE attempts a SET outcome = 'unknown', finished_at = now()
      FROM dead d WHERE a.task_id = d.id AND a.n = d.attempts AND a.outcome = 'started'
    ), requeued AS (
      UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, worker_id = NULL, dispatched_at = NULL
      FROM dead d WHERE t.id = d.id AND d.claims < $2
    )
    SELECT id, claims >= $2 AS hopeless FROM dead`,
}

const orphansStatement = {
  name: 'attempts_orphaned',
  text: `WITH orphaned AS (
      SELECT a.task_id, a.n FROM attempts a LEFT JOIN workers w ON w.id = a.worker_id JOIN tasks t ON t.id = a.task_id
      WHERE a.outcome = 'started' AND (w.id IS NULL OR ${DEAD}) AND t.status <> 'running'
      LIMIT $1 FOR UPDATE OF a SKIP LOCKED
    )
    UPDATE attempts a SET outcome = 'unknown', finished_at = now()
    FROM orphaned o WHERE a.task_id = o.task_id AND a.n = o.n RETURNING a.n`,
}

/**
 * Takes the claims of dead processes away: the attempt becomes `unknown`, the task is queued again under a new epoch.
 * `hopeless` ones have been claimed `maxClaims` times without a settlement and are left for the caller to fail.
 */
export async function takeOverDeadClaims(
  db: Db,
  limit: number,
  maxClaims: number,
): Promise<{ taken: number; hopeless: string[] }> {
  const rows = await db.query<{ id: string; hopeless: boolean }>(takeOverStatement, [limit, maxClaims])
  const hopeless = rows.filter(row => row.hopeless).map(row => row.id)
  return { taken: rows.length - hopeless.length, hopeless }
}

/** Attempts of dead processes whose task has ended meanwhile (cancelled, expired) become `unknown`. */
export async function closeOrphanedAttempts(db: Db, limit: number): Promise<number> {
  return (await db.query(orphansStatement, [limit])).length
}

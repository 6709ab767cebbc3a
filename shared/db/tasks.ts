import { coalesce } from '#shared/coalesce.ts'
import type { TaskError } from '#shared/errors.ts'
import { booking, type Settlement, settlementColumns, settlementValues } from './attempts.ts'
import { jsonOrNull } from './json.ts'
import { type Db, itemsToBlame } from './pool.ts'

export const TASK_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'] as const
export type TaskStatus = (typeof TASK_STATUSES)[number]
export type TerminalStatus = Exclude<TaskStatus, 'queued' | 'running'>
export const isTerminal = (status: TaskStatus): status is TerminalStatus => status !== 'queued' && status !== 'running'

export type Source = 'ai' | 'cache' | 'precomputed' | 'rules'
export type Quality = 'high' | 'medium' | 'low'

/** A dispatch of a task: what makes the queue's job id. */
export type Dispatchable = { id: string; epoch: number; queue: string; priority: string }

export type TaskRow = {
  id: string
  kind: string
  status: TaskStatus
  queue: string
  priority: string
  api_key_id: string
  input: unknown
  options: Record<string, unknown>
  metadata: Record<string, unknown> | null
  epoch: number
  /** Attempts started so far; the number of the newest. */
  attempts: number
  /** Attempts that count against the cap. */
  tries: number
  result: unknown
  source: Source | null
  quality: Quality | null
  provider: string | null
  model: string | null
  error: TaskError | null
  created_at: Date
  started_at: Date | null
  finished_at: Date | null
}

/**
 * `t.status` in a statement that finds its rows by id. In a form that no partial index answers to: with the bare column
 * and statistics from before a burst, the planner reads every queued task to find thirty.
 */
export const STATUS = "(t.status || '')"

/** What a worker needs to run a task. `left_ms` is the time to its deadline by Postgres's clock. */
export type RunnableTask = Pick<
  TaskRow,
  'id' | 'kind' | 'queue' | 'priority' | 'api_key_id' | 'input' | 'options' | 'epoch' | 'attempts' | 'tries'
> & {
  cache_key: Buffer | null
  left_ms: number
  /** Providers and models (`<provider>/<model>`) that said that they can never answer this task. */
  dead_ends: string[]
}

const loadStatement = {
  name: 'tasks_load',
  text: `SELECT t.id, t.kind, t.queue, t.priority, t.api_key_id, t.input, t.options, t.epoch, t.attempts, t.tries, t.cache_key,
      (extract(epoch FROM t.deadline_at - now()) * 1000)::float8 AS left_ms,
      CASE WHEN t.attempts = 0 THEN '{}' ELSE ARRAY(
        SELECT a.provider || '/' || a.model FROM attempts a WHERE a.task_id = t.id AND a.outcome = ANY($3)
      ) END AS dead_ends
    FROM unnest($1::uuid[], $2::int[]) AS i(id, epoch) JOIN tasks t ON t.id = i.id AND t.epoch = i.epoch
    WHERE ${STATUS} = 'queued'`,
}

/** Loads a dispatched task; null if that dispatch has been overtaken (cancelled, expired, taken over, done). */
export function createLoader(
  db: Db,
  deadEndOutcomes: readonly string[],
): (job: { id: string; epoch: number }) => Promise<RunnableTask | null> {
  return coalesce({
    max: 500,
    itemsToBlame,
    flush: async jobs => {
      const rows = await db.query<RunnableTask>(loadStatement, [
        jobs.map(job => job.id),
        jobs.map(job => job.epoch),
        deadEndOutcomes,
      ])
      const byId = new Map(rows.map(row => [row.id, row]))
      return jobs.map(job => byId.get(job.id) ?? null)
    },
  })
}

/** The end of a task, and what came of the attempt that led to it. */
export type Ending = {
  id: string
  status: TerminalStatus
  /** The states it may end from. */
  from: 'queued' | 'running' | 'live'
  /** Only this dispatch may end it; null: whichever is current. */
  epoch: number | null
  /** Only this claim may end it; null: whoever holds it. */
  workerId: string | null
  result?: unknown
  source?: Source
  quality?: Quality
  provider?: string
  model?: string
  error?: TaskError
  settlement: Settlement | null
}

const endStatement = {
  name: 'tasks_end',
  text: `WITH input AS (
      SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::uuid[], $6::json[], $7::text[], $8::text[], $9::text[], $10::text[], $11::json[])
        WITH ORDINALITY AS i(id, status, from_status, epoch, worker_id, result, source, quality, provider, model, error, ord)
    ), ${settlementColumns(12)}, ${booking()}, ended AS (
      UPDATE tasks t SET status = i.status, result = i.result, source = i.source, quality = i.quality,
        provider = i.provider, model = i.model, error = i.error, worker_id = NULL, leader_id = NULL, finished_at = now(),
        started_at = CASE WHEN i.status = 'succeeded' THEN coalesce(t.started_at, now()) ELSE t.started_at END
      -- Budgets are locked before tasks, everywhere.
      FROM input i, (SELECT count(*) FROM booked) b
      WHERE t.id = i.id AND t.status = ANY (CASE i.from_status WHEN 'live' THEN ARRAY['queued', 'running'] ELSE ARRAY[i.from_status] END)
        AND (i.epoch IS NULL OR t.epoch = i.epoch) AND (i.worker_id IS NULL OR t.worker_id = i.worker_id)
      RETURNING i.ord, t.id, t.kind
    ), led AS (
      -- An answer of a model, or one that was remembered, is the followers' too; after anything else one of them will lead.
      UPDATE tasks f SET leader_id = NULL, dispatched_at = NULL,
        status = CASE WHEN e.answered THEN 'succeeded' ELSE f.status END,
        result = CASE WHEN e.answered THEN e.result END,
        source = CASE WHEN e.answered THEN 'cache' END, quality = CASE WHEN e.answered THEN e.quality END,
        provider = CASE WHEN e.answered THEN e.provider END, model = CASE WHEN e.answered THEN e.model END,
        started_at = CASE WHEN e.answered THEN now() END, finished_at = CASE WHEN e.answered THEN now() END
      FROM (SELECT i.*, i.source IN ('ai', 'cache') AS answered FROM ended JOIN input i ON i.ord = ended.ord) e
      WHERE f.leader_id = e.id AND f.status = 'queued'
      RETURNING e.ord, f.id, f.kind, f.status
    )
    SELECT ord::int AS ord, NULL::uuid AS follower, kind FROM ended
    UNION ALL SELECT ord::int, id, kind FROM led WHERE status = 'succeeded'`,
}

/** What ended, for whoever waits, counts or holds the claim. */
export type Ended = { id: string; kind: string; status: TerminalStatus; source: Source | null }

export type Ender = (ending: Ending) => Promise<{ ended: boolean }>

/**
 * The one way to end: every terminal transition goes through here. A compare-and-set: `ended: false` says that the
 * task had ended already or that the claim was lost, in which case only the attempt has been settled.
 * Repeating a committed ending changes nothing.
 */
export function createEnder(db: Db, onEnded: (ended: Ended[]) => void): Ender {
  const end = coalesce<Ending & { resultJson: string | null }, { ended: boolean }>({
    max: 500,
    maxWeight: 4_000_000,
    weigh: one => one.resultJson?.length ?? 0,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ ord: number; follower: string | null; kind: string }>(endStatement, [
        items.map(one => one.id),
        items.map(one => one.status),
        items.map(one => one.from),
        items.map(one => one.epoch),
        items.map(one => one.workerId),
        items.map(one => one.resultJson),
        items.map(one => one.source ?? null),
        items.map(one => one.quality ?? null),
        items.map(one => one.provider ?? null),
        items.map(one => one.model ?? null),
        items.map(one => jsonOrNull(one.error)),
        ...settlementValues(items.map(one => one.settlement && { taskId: one.id, ...one.settlement })),
      ])
      const ended = new Set(rows.filter(row => row.follower === null).map(row => row.ord))
      if (rows.length > 0) {
        onEnded(
          rows.map(row => {
            const { id, status, source } = items[row.ord - 1]!
            return row.follower === null
              ? { id, kind: row.kind, status, source: source ?? null }
              : { id: row.follower, kind: row.kind, status: 'succeeded', source: 'cache' }
          }),
        )
      }
      return items.map((_, index) => ({ ended: ended.has(index + 1) }))
    },
  })
  return ending => end({ ...ending, resultJson: jsonOrNull(ending.result) })
}

const followStatement = {
  name: 'tasks_follow',
  text: `WITH i AS (
      SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[]) AS i(id, epoch, leader_id)
    ), leaders AS MATERIALIZED (
      -- Locked, so that it cannot end between being looked at and being followed.
      SELECT t.id FROM tasks t WHERE t.id IN (SELECT leader_id FROM i) AND (t.status || '') IN ('queued', 'running') AND t.leader_id IS NULL
      ORDER BY t.id FOR SHARE
    )
    UPDATE tasks t SET leader_id = i.leader_id, dispatched_at = 'infinity', epoch = t.epoch + 1
    FROM leaders l JOIN i ON i.leader_id = l.id
    WHERE t.id = i.id AND t.epoch = i.epoch AND t.id <> i.leader_id AND ${STATUS} = 'queued'
    RETURNING t.id`,
}

/**
 * Lets a queued task wait for the answer of another, which the end of that one brings or denies. It is then in no queue.
 * @returns false: that task is not live, or this one has moved on
 */
export const createFollow = (db: Db): ((task: { id: string; epoch: number; leaderId: string }) => Promise<boolean>) =>
  coalesce({
    max: 200,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ id: string }>(followStatement, [
        items.map(item => item.id),
        items.map(item => item.epoch),
        items.map(item => item.leaderId),
      ])
      const following = new Set(rows.map(row => row.id))
      return items.map(item => following.has(item.id))
    },
  })

/** Live tasks whose deadline has passed. */
export async function findOverdue(db: Db, limit: number): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    {
      name: 'tasks_overdue',
      text: `SELECT id FROM tasks WHERE status IN ('queued', 'running') AND deadline_at <= now() ORDER BY deadline_at LIMIT $1`,
    },
    [limit],
  )
  return rows.map(row => row.id)
}

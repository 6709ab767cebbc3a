import { coalesce, patience } from '#shared/coalesce.ts'
import type { TaskError } from '#shared/errors.ts'
import { booking, type Settlement, settlementColumns, settlementValues } from './attempts.ts'
import { jsonOrNull } from './json.ts'
import { type Db, itemsToBlame } from './pool.ts'
import { tellOf } from './webhooks.ts'

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
  /** How many of what was taken out of the result, by type. */
  output_filtered: Record<string, number> | null
  /** null, like `variant`: it is part of none. */
  experiment: string | null
  variant: string | null
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
  /** It is a line of this batch: run by a chunk's worker, in no queue. */
  batch_id: string | null
  left_ms: number
  /** For how long it has been due. */
  waited_ms: number
  /** W3C trace context of its submission. */
  traceparent: string | null
  /** Providers and models (`<provider>/<model>`) that said that they can never answer this task. */
  dead_ends: string[]
}

const loadStatement = {
  name: 'tasks_load',
  text: `SELECT t.id, t.kind, t.queue, t.priority, t.api_key_id, t.input, t.options, t.epoch, t.attempts, t.tries, t.cache_key, t.batch_id,
      (extract(epoch FROM t.deadline_at - now()) * 1000)::float8 AS left_ms,
      (extract(epoch FROM now() - greatest(t.run_at, t.created_at)) * 1000)::float8 AS waited_ms,
      t.traceparent,
      CASE WHEN t.attempts = 0 THEN '{}' ELSE ARRAY(
        SELECT a.provider || '/' || a.model FROM attempts a WHERE a.task_id = t.id AND a.outcome = ANY($3)
          -- A line that is tried anew, as its batch is, has a clean slate.
          AND (t.batch_id IS NULL OR a.n > t.attempts - t.tries)
      ) END AS dead_ends
    FROM unnest($1::uuid[], $2::int[]) AS i(id, epoch) JOIN tasks t ON t.id = i.id AND t.epoch = i.epoch
    WHERE ${STATUS} = 'queued'`,
}

/** Loads a dispatched task; null if that dispatch has been overtaken (cancelled, expired, taken over, done). */
export function createLoader(
  db: Db,
  deadEndOutcomes: readonly string[],
  lingerMs = 0,
): (job: { id: string; epoch: number }) => Promise<RunnableTask | null> {
  return coalesce({
    max: 500,
    ...patience(lingerMs),
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
  outputFiltered?: Record<string, number> | null
  settlement: Settlement | null
}

/** What tasks of some kinds have for a result when they end without one. */
export type NoVerdicts = ReadonlyMap<string, unknown>

/** A line waits for its batch, which says nothing of how quickly tasks are done. */
const SECONDS = 'CASE WHEN t.batch_id IS NULL THEN extract(epoch FROM t.finished_at - t.created_at)::float8 END'

const endStatement = {
  name: 'tasks_end',
  text: `WITH input AS (
      SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::uuid[], $6::json[], $7::text[], $8::text[], $9::text[], $10::text[], $11::json[], $12::json[])
        WITH ORDINALITY AS i(id, status, from_status, epoch, worker_id, result, source, quality, provider, model, error, output_filtered, ord)
    ), ${settlementColumns(15)}, ${booking()}, ended AS (
      UPDATE tasks t SET status = i.status, output_filtered = i.output_filtered,
        result = CASE WHEN i.status = 'succeeded' THEN i.result
          ELSE (SELECT v.result FROM unnest($13::text[], $14::json[]) AS v(kind, result) WHERE v.kind = t.kind) END,
        source = i.source, quality = i.quality,
        provider = i.provider, model = i.model, error = i.error, worker_id = NULL, leader_id = NULL, finished_at = now(),
        started_at = CASE WHEN i.status = 'succeeded' THEN coalesce(t.started_at, now()) ELSE t.started_at END
      -- Budgets are locked before tasks, everywhere.
      FROM input i, (SELECT count(*) FROM booked) b
      WHERE t.id = i.id AND ${STATUS} = ANY (CASE i.from_status WHEN 'live' THEN ARRAY['queued', 'running'] ELSE ARRAY[i.from_status] END)
        AND (i.epoch IS NULL OR t.epoch = i.epoch) AND (i.worker_id IS NULL OR t.worker_id = i.worker_id)
      RETURNING i.ord, t.kind, CASE WHEN t.kind = ANY($13) THEN t.result->>'decision' = 'review' END AS unsure, t.cache_key IS NOT NULL AND EXISTS (SELECT FROM tasks f WHERE f.leader_id = t.id) AS leads,
        t.id, t.api_key_id, t.status, t.webhook_url, ${SECONDS} AS seconds
    ), told AS (
      ${tellOf('task', 'ended')}
    ), reviewed AS (
      ${reviewOf('ended')}
    )
    SELECT ord::int AS ord, kind, leads, seconds FROM ended`,
}

/** Leaves to a person what a model was not sure of. `from` has id, api_key_id and `unsure`. */
function reviewOf(from: string): string {
  return `INSERT INTO reviews (task_id, api_key_id, created_at) SELECT id, api_key_id, now() FROM ${from} WHERE unsure
      ON CONFLICT DO NOTHING`
}

/** What ended, for whoever waits, counts or holds the claim. */
export type Ended = {
  id: string
  kind: string
  status: TerminalStatus
  source: Source | null
  /** From acceptance to the end; null: it is a line of a batch. */
  seconds: number | null
  /** Of one that succeeded. */
  result: unknown
}

export type Ender = (ending: Ending) => Promise<{ ended: boolean }>

/**
 * The one way to end: every terminal transition goes through here. A compare-and-set: `ended: false` says that the
 * task had ended already or that the claim was lost, in which case only the attempt has been settled.
 * Repeating a committed ending changes nothing.
 */
export function createEnder(
  db: Db,
  onEnded: (ended: Ended[]) => void,
  { lingerMs = 0, noVerdicts = new Map() }: { lingerMs?: number; noVerdicts?: NoVerdicts } = {},
): Ender {
  const end = coalesce<Ending & { resultJson: string | null }, { ended: boolean }>({
    max: 500,
    maxWeight: 4_000_000,
    weigh: one => one.resultJson?.length ?? 0,
    ...patience(lingerMs),
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ ord: number; kind: string; leads: boolean; seconds: number | null }>(endStatement, [
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
        items.map(one => jsonOrNull(one.outputFiltered)),
        [...noVerdicts.keys()],
        [...noVerdicts.values()].map(result => JSON.stringify(result)),
        ...settlementValues(items.map(one => one.settlement && { taskId: one.id, ...one.settlement })),
      ])
      const ended = new Set(rows.map(row => row.ord))
      if (rows.length > 0) {
        onEnded(
          rows.map(row => {
            const { id, status, source, result } = items[row.ord - 1]!
            return { id, kind: row.kind, status, source: source ?? null, seconds: row.seconds, result }
          }),
        )
      }
      const leaders = rows.filter(row => row.leads).map(row => items[row.ord - 1]!)
      // Not awaited: what this does not come to, the sweeper does, and who began to follow in this very moment.
      for (const { id, result } of leaders) void release({ id, result }).catch(() => undefined)
      return items.map((_, index) => ({ ended: ended.has(index + 1) }))
    },
  })
  const release = createRelease(db, onEnded, [...noVerdicts.keys()])
  return ending => end({ ...ending, resultJson: jsonOrNull(ending.result) })
}

/** A leader that will not call within this time is none: its followers had better call themselves. */
const SOON = "interval '5 seconds'"

const followStatement = {
  name: 'tasks_follow',
  text: `WITH i AS (
      SELECT * FROM unnest($1::uuid[], $2::int[], $3::uuid[]) AS i(id, epoch, leader_id)
    ), leaders AS MATERIALIZED (
      SELECT t.id FROM tasks t WHERE t.id IN (SELECT leader_id FROM i) AND t.leader_id IS NULL
        AND (${STATUS} = 'running' OR ${STATUS} = 'queued' AND t.run_at < now() + ${SOON})
      ORDER BY t.id FOR SHARE
    )
    UPDATE tasks t SET leader_id = i.leader_id, dispatched_at = 'infinity', epoch = t.epoch + 1
    FROM leaders l JOIN i ON i.leader_id = l.id
    WHERE t.id = i.id AND t.epoch = i.epoch AND t.id <> i.leader_id AND ${STATUS} = 'queued' AND t.batch_id IS NULL
      AND NOT EXISTS (SELECT FROM tasks f WHERE f.leader_id = t.id)
    RETURNING t.id`,
}

/**
 * Lets a queued task wait for the answer of another, which the end of that one brings or denies. It is then in no queue.
 * @returns false: that task is not live or not about to call, or this one has moved on or is followed itself
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

/** Followers that one ending settles; the others find the answer in the cache. */
const MOST_SETTLED = 500

const releaseStatement = {
  name: 'tasks_release',
  text: `WITH l AS MATERIALIZED (
      SELECT t.id, t.result, t.provider, t.model, t.quality,
        t.status = 'succeeded' AND (t.source = 'ai' OR t.source = 'cache' AND t.quality = 'high') AS answered
      FROM tasks t WHERE t.id = ANY($1::uuid[]) AND ${STATUS} NOT IN ('queued', 'running')
    ), f AS MATERIALIZED (
      SELECT f.id, l.id AS leader_id FROM l CROSS JOIN LATERAL (
        SELECT t.id FROM tasks t WHERE t.leader_id = l.id AND ${STATUS} = 'queued' LIMIT ${MOST_SETTLED} FOR UPDATE SKIP LOCKED
      ) f
    ), released AS (
      UPDATE tasks t SET leader_id = NULL, dispatched_at = NULL,
        status = CASE WHEN l.answered THEN 'succeeded' ELSE t.status END,
        result = CASE WHEN l.answered THEN l.result END, source = CASE WHEN l.answered THEN 'cache' END,
        quality = CASE WHEN l.answered THEN l.quality END, provider = CASE WHEN l.answered THEN l.provider END,
        model = CASE WHEN l.answered THEN l.model END, started_at = CASE WHEN l.answered THEN now() END,
        finished_at = CASE WHEN l.answered THEN now() END
      FROM f JOIN l ON l.id = f.leader_id WHERE t.id = f.id AND t.leader_id = f.leader_id AND ${STATUS} = 'queued'
      RETURNING t.id, t.kind, t.status, t.api_key_id, t.webhook_url, l.id AS leader_id, ${SECONDS} AS seconds,
        CASE WHEN t.kind = ANY($2) THEN t.result->>'decision' = 'review' END AS unsure
    ), told AS (
      ${tellOf('task', 'released')}
    ), reviewed AS (
      ${reviewOf('released')}
    )
    SELECT id, kind, status, leader_id, seconds FROM released`,
}

/**
 * Lets the followers of tasks that have ended go: a fresh answer of a model is theirs too; after anything else they are
 * on their own, and one of them leads. A statement of its own, after the ending: one that began to follow while the
 * leader ended is in no snapshot of that.
 */
const createRelease = (
  db: Db,
  onEnded: (ended: Ended[]) => void,
  reviewed: string[],
): ((leader: { id: string; result: unknown }) => Promise<void>) =>
  coalesce({
    max: 200,
    itemsToBlame,
    flush: async leaders => {
      const rows = await db.query<{ id: string; kind: string; status: TaskStatus; leader_id: string; seconds: number }>(
        releaseStatement,
        [leaders.map(one => one.id), reviewed],
      )
      const results = new Map(leaders.map(one => [one.id, one.result]))
      const settled = rows.filter(row => row.status === 'succeeded')
      if (settled.length > 0) {
        onEnded(
          settled.map(({ id, kind, leader_id, seconds }) => {
            return { id, kind, status: 'succeeded', source: 'cache', seconds, result: results.get(leader_id) }
          }),
        )
      }
      return leaders.map(() => undefined)
    },
  })

/**
 * Lets followers go that wait in vain: for a leader that has ended, is not there, follows itself or will not call soon, or
 * for longer than leaves them time to make do. @returns how many, at most `limit`
 */
export const releaseStrayFollowers = async (db: Db, limit: number): Promise<number> => {
  const rows = await db.query(
    {
      name: 'tasks_release_stray',
      text: `WITH stray AS (
          SELECT t.id FROM tasks t LEFT JOIN tasks l ON l.id = t.leader_id
          WHERE t.leader_id IS NOT NULL AND ${STATUS} = 'queued' AND (
            l.id IS NULL OR l.leader_id IS NOT NULL OR (l.status || '') NOT IN ('queued', 'running')
            OR (l.status || '') = 'queued' AND l.run_at > now() + ${SOON} OR t.deadline_at < now() + ${SOON})
          LIMIT $1 FOR UPDATE OF t SKIP LOCKED
        )
        UPDATE tasks t SET leader_id = NULL, dispatched_at = NULL FROM stray s WHERE t.id = s.id RETURNING t.id`,
    },
    [limit],
  )
  return rows.length
}

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

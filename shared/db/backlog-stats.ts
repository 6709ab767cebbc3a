import { NEUTRAL_OUTCOMES } from '#shared/gate/outcomes.ts'
import { LIVENESS } from '#shared/process/liveness.ts'
import { flows } from './dispatches.ts'
import type { Db } from './pool.ts'
import { isAlive } from './workers.ts'

/** Load and capacity, for the autoscaler and the metrics. Every statement reads a bounded number of rows by an index. */

/** Rows read from each of the two indexes of queued tasks, over all flows. */
export const MAX_ROWS = 10_000
/** Tasks due within this time count as `soon`. */
const SOON_SECONDS = 10

export type WaitingTasks = {
  queue: string
  kind: string
  /** Due. */
  waiting: number
  soon: number
  /** Seconds since the oldest due task became due; 0: none is due. */
  oldest_seconds: number
  /** The counts are lower bounds, because a flow was not read to its end. */
  at_least: boolean
}

/** Reads the start of each flow, an equal share of MAX_ROWS, so that a backlog of a million rows costs no more. */
const waiting = (index: 'IS NULL' | 'IS NOT NULL', more: string, order: string) => `WITH ${flows(index)},
    room AS MATERIALIZED (SELECT greatest(1, $1::int / greatest(1, count(*)))::int AS rows FROM flows)
    SELECT queue, kind, count(*) FILTER (WHERE run_at <= now())::int AS waiting,
      count(*) FILTER (WHERE run_at > now() AND run_at <= now() + interval '${SOON_SECONDS} seconds')::int AS soon,
      greatest(0, extract(epoch FROM now() - min(run_at)))::float8 AS oldest_seconds, bool_or(n = room.rows) AS at_least
    FROM room CROSS JOIN flows f CROSS JOIN LATERAL (
      SELECT queue, kind, run_at, row_number() OVER () AS n FROM (
        SELECT queue, kind, run_at FROM tasks
        WHERE status = 'queued' AND dispatched_at ${index} ${more} AND api_key_id = f.api_key_id AND priority = f.priority
        ORDER BY ${order} LIMIT room.rows
      ) t
    ) r GROUP BY queue, kind`

const backlogStatement = { name: 'stats_backlog', text: waiting('IS NULL', '', 'run_at') }
const dispatchedStatement = {
  name: 'stats_dispatched',
  // Without followers, which need no slot, and lines, which their chunks count: both are dispatched at `infinity`.
  text: waiting('IS NOT NULL', "AND dispatched_at < 'infinity'", 'dispatched_at'),
}

/** Queued tasks without lines, in the backlog or the queue. */
export async function readWaitingTasks(db: Db): Promise<WaitingTasks[]> {
  const both = await Promise.all(
    [backlogStatement, dispatchedStatement].map(one => db.query<WaitingTasks>(one, [MAX_ROWS])),
  )
  return both.flat()
}

/** Chunks read per batch. */
const MAX_CHUNKS = 500

const linesStatement = {
  name: 'stats_lines',
  text: `SELECT 'batch' AS queue, coalesce(b.kind, '') AS kind, sum(c.lines)::int AS waiting, 0 AS soon,
      coalesce(greatest(0, extract(epoch FROM now() - min(c.dispatched_at))), 0)::float8 AS oldest_seconds,
      bool_or(c.n = ${MAX_CHUNKS}) AS at_least
    FROM batches b CROSS JOIN LATERAL (
      SELECT greatest(1, last_line - first_line + 1) AS lines, dispatched_at, row_number() OVER () AS n FROM (
        SELECT first_line, last_line, dispatched_at FROM batch_chunks
        WHERE batch_id = b.id AND status = 'waiting' ORDER BY first_line LIMIT ${MAX_CHUNKS}
      ) t
    ) c WHERE b.status IN ('validating', 'in_progress', 'finalizing') GROUP BY 2`,
}

/** Lines in waiting chunks. `oldest_seconds` is the age of the oldest dispatch. */
export const readWaitingLines = (db: Db): Promise<WaitingTasks[]> => db.query<WaitingTasks>(linesStatement)

export type RunningTasks = { queue: string; running: number }

/** Running tasks by queue, lines as `batch`. Bounded by the number of slots. */
export const readRunning = (db: Db): Promise<RunningTasks[]> =>
  db.query<RunningTasks>({
    name: 'stats_running',
    text: `SELECT CASE WHEN batch_id IS NULL THEN queue ELSE 'batch' END AS queue, count(*)::int AS running
      FROM tasks WHERE status = 'running' GROUP BY 1`,
  })

/** The newest settled calls that are read, of those that ended within CALLS_SECONDS. */
const MAX_CALLS = 2000
const CALLS_SECONDS = 120
/** Calls that started earlier are not read. Longer than nearly all calls. */
const STARTED_SECONDS = 900

export type CallStats = {
  kind: string
  provider: string
  model: string
  calls: number
  answered: number
  /** Failures of the provider since its model last answered. */
  broken_since: number
  /** Seconds since the end of the oldest call of all that were read. */
  span_seconds: number
  /** Means over the answered calls; null: none. */
  call_seconds: number | null
  input_tokens: number | null
  output_tokens: number | null
}

const callsStatement = {
  name: 'stats_calls',
  // Calls that a worker aborted or died with show nothing about the provider.
  text: `SELECT kind, provider, model, count(*)::int AS calls, count(*) FILTER (WHERE ok)::int AS answered,
      count(*) FILTER (WHERE broken AND finished_at > coalesce(last_ok, '-infinity'))::int AS broken_since,
      extract(epoch FROM now() - min(min(finished_at)) OVER ())::float8 AS span_seconds,
      (avg(extract(epoch FROM finished_at - started_at)) FILTER (WHERE ok))::float8 AS call_seconds,
      (avg(input_tokens) FILTER (WHERE ok))::float8 AS input_tokens,
      (avg(output_tokens) FILTER (WHERE ok))::float8 AS output_tokens
    FROM (
      SELECT *, max(finished_at) FILTER (WHERE ok) OVER (PARTITION BY provider, model) AS last_ok FROM (
        SELECT kind, provider, model, started_at, finished_at, input_tokens, output_tokens,
          outcome IN ('succeeded', 'rejected') AS ok,
          outcome NOT IN ('succeeded', 'rejected', ${NEUTRAL_OUTCOMES.map(one => `'${one}'`).join(', ')}) AS broken
        FROM attempts
        WHERE started_at > now() - interval '${STARTED_SECONDS} seconds' AND outcome NOT IN ('started', 'unknown', 'aborted')
        ORDER BY started_at DESC LIMIT ${MAX_CALLS}
      ) a WHERE finished_at > now() - interval '${CALLS_SECONDS} seconds'
    ) a GROUP BY kind, provider, model`,
}

/** Outcomes of the newest calls, by kind, provider and model. */
export const readCalls = (db: Db): Promise<CallStats[]> => db.query<CallStats>(callsStatement)

/** Live workers that serve the same queues. Each slot serves all of them. */
export type Capacity = { queues: string[]; workers: number; slots: number }

/** Live workers and their slots, by the queues they serve. A draining worker has no slots. */
export const readCapacity = (db: Db, deadAfterMs: number = LIVENESS.deadAfterMs): Promise<Capacity[]> =>
  db.query<Capacity>(
    {
      name: 'stats_capacity',
      text: `SELECT queues, count(*)::int AS workers, sum(concurrency)::int AS slots FROM workers w
        WHERE ${isAlive('$1')} AND concurrency > 0 GROUP BY queues`,
    },
    [deadAfterMs],
  )

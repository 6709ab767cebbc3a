import { NEUTRAL_OUTCOMES } from '#shared/gate/outcomes.ts'
import { flows } from './dispatches.ts'
import type { Db } from './pool.ts'
import { DEAD_AFTER_SECONDS } from './workers.ts'

/** What is waiting and what is done about it, for whoever decides how many workers there are to be. Every statement reads a bounded number of rows, by an index. */

/** Rows that are read of each of the two indexes of what waits, over all flows. */
export const MOST_ROWS = 10_000
/** What is due within so many seconds is soon due. */
export const SOON_SECONDS = 10

export type Waiting = {
  queue: string
  kind: string
  /** Due. */
  waiting: number
  soon: number
  /** For how long the one that was due first has been; 0: none is. */
  oldest_seconds: number
  /** Not all of a flow was read: there are more. */
  at_least: boolean
}

/** Of each flow the beginning, as much as it may have if all are to be read: a million rows that wait cost no more. */
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

const backlogStatement = { name: 'load_backlog', text: waiting('IS NULL', '', 'run_at') }
const dispatchedStatement = {
  name: 'load_dispatched',
  // Not those that are dispatched for ever: followers want no slot, and lines of batches are counted by their chunks.
  text: waiting('IS NOT NULL', "AND dispatched_at < 'infinity'", 'dispatched_at'),
}

/** Single tasks that wait, here or in the queue. */
export async function readWaiting(db: Db): Promise<Waiting[]> {
  const both = await Promise.all(
    [backlogStatement, dispatchedStatement].map(one => db.query<Waiting>(one, [MOST_ROWS])),
  )
  return both.flat()
}

/** Chunks of one batch that are looked at. */
const MOST_CHUNKS = 500

const linesStatement = {
  name: 'load_lines',
  text: `SELECT 'batch' AS queue, coalesce(b.kind, '') AS kind, sum(c.lines)::int AS waiting, 0 AS soon,
      coalesce(greatest(0, extract(epoch FROM now() - min(c.dispatched_at))), 0)::float8 AS oldest_seconds,
      bool_or(c.n = ${MOST_CHUNKS}) AS at_least
    FROM batches b CROSS JOIN LATERAL (
      SELECT greatest(1, last_line - first_line + 1) AS lines, dispatched_at, row_number() OVER () AS n FROM (
        SELECT first_line, last_line, dispatched_at FROM batch_chunks
        WHERE batch_id = b.id AND status = 'waiting' ORDER BY first_line LIMIT ${MOST_CHUNKS}
      ) t
    ) c WHERE b.status IN ('validating', 'in_progress', 'finalizing') GROUP BY 2`,
}

/** Lines of batches that no worker has in hand; the oldest is the chunk that was handed to the queue first. */
export const readWaitingLines = (db: Db): Promise<Waiting[]> => db.query<Waiting>(linesStatement)

export type Running = { queue: string; running: number }

/** Tasks in workers' hands, lines of batches as queue `batch`. As many as the fleet has slots. */
export const readRunning = (db: Db): Promise<Running[]> =>
  db.query<Running>({
    name: 'load_running',
    text: `SELECT CASE WHEN batch_id IS NULL THEN queue ELSE 'batch' END AS queue, count(*)::int AS running
      FROM tasks WHERE status = 'running' GROUP BY 1`,
  })

/** Settled calls that are looked at, the latest to begin, of those that ended within CALLS_SECONDS. */
const MOST_CALLS = 2000
const CALLS_SECONDS = 120
/** Nor those that began before: longer than any call takes. */
const BEGAN_SECONDS = 900

export type Calls = {
  kind: string
  provider: string
  model: string
  calls: number
  answered: number
  /** Those that broke, and not for being refused or of no use, since the target last answered. */
  broken_since: number
  /** From the end of the oldest of all that were looked at until now. */
  span_seconds: number
  /** Means of those that were answered; null: none was. */
  call_seconds: number | null
  input_tokens: number | null
  output_tokens: number | null
}

const callsStatement = {
  name: 'load_calls',
  // What a worker gave back, or died with, says nothing of the provider.
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
        WHERE started_at > now() - interval '${BEGAN_SECONDS} seconds' AND outcome NOT IN ('started', 'unknown', 'aborted')
        ORDER BY started_at DESC LIMIT ${MOST_CALLS}
      ) a WHERE finished_at > now() - interval '${CALLS_SECONDS} seconds'
    ) a GROUP BY kind, provider, model`,
}

/** What became of the latest calls, by kind and target. */
export const readCalls = (db: Db): Promise<Calls[]> => db.query<Calls>(callsStatement)

/** Live workers that serve the same queues; each of its slots is for any of these. */
export type Capacity = { queues: string[]; workers: number; slots: number }

/** The live workers by what they serve, with the tasks that they run at a time. One that is leaving has no slots. */
export const readCapacity = (db: Db): Promise<Capacity[]> =>
  db.query<Capacity>({
    name: 'load_capacity',
    text: `SELECT queues, count(*)::int AS workers, sum(concurrency)::int AS slots FROM workers
      WHERE beat_at > now() - interval '${DEAD_AFTER_SECONDS} seconds' AND concurrency > 0 GROUP BY queues`,
  })

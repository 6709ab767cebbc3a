import { coalesce, linger } from '#shared/concurrency/coalesce.ts'
import type { TaskError } from '#shared/errors.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { bookSettled, type Settlement, settleAttempts, settlementValues } from '../attempts.ts'
import { defineColumns } from '../columns.ts'
import { jsonOrNull } from '../json.ts'
import { type Db, splitOnError } from '../pool.ts'
import { insertReviews } from '../reviews.ts'
import { insertWebhooks } from '../webhooks/insert.ts'
import { createFollowerRelease } from './release.ts'
import { type FinishedTask, type Quality, SECONDS, type Source, STATUS, type TerminalStatus } from './row.ts'

/** The end of a task, with the settlement of the attempt that led to it. */
export type TaskOutcome = {
  id: string
  status: TerminalStatus
  /** The statuses that the task may end from. */
  from: 'queued' | 'running' | 'live'
  /** Only this dispatch may end the task; null: any. */
  epoch: number | null
  /** Only this claim may end the task; null: any. */
  workerId: string | null
  result?: unknown
  source?: Source
  quality?: Quality
  provider?: string
  model?: string
  error?: TaskError
  finishReason?: FinishReason | null
  outputFiltered?: Record<string, number> | null
  settlement: Settlement | null
}

/** By kind: the result of a task that ends without a verdict. */
export type NoVerdicts = ReadonlyMap<string, unknown>

export type FinishTask = (outcome: TaskOutcome) => Promise<{ ended: boolean }>

type Item = TaskOutcome & { resultJson: string | null }

const outcomeColumns = defineColumns<Item>([
  ['id', 'uuid', one => one.id],
  ['status', 'text', one => one.status],
  ['from_status', 'text', one => one.from],
  ['epoch', 'int', one => one.epoch],
  ['worker_id', 'uuid', one => one.workerId],
  ['result', 'json', one => one.resultJson],
  ['source', 'text', one => one.source ?? null],
  ['quality', 'text', one => one.quality ?? null],
  ['provider', 'text', one => one.provider ?? null],
  ['model', 'text', one => one.model ?? null],
  ['error', 'json', one => jsonOrNull(one.error)],
  ['output_filtered', 'json', one => jsonOrNull(one.outputFiltered)],
  ['finish_reason', 'text', one => one.finishReason ?? null],
])
/** $1 and $2 are the kinds and results of `NoVerdicts`. */
const FIRST = 3

const finishStatement = {
  name: 'tasks_finish',
  text: `WITH input AS (
      SELECT * FROM ${outcomeColumns.unnestOrdered('i', FIRST)}
    ), ${settleAttempts(FIRST + outcomeColumns.count)}, ${bookSettled()}, ended AS (
      UPDATE tasks t SET status = i.status, output_filtered = i.output_filtered, finish_reason = i.finish_reason,
        result = CASE WHEN i.status = 'succeeded' THEN i.result
          ELSE (SELECT v.result FROM unnest($1::text[], $2::json[]) AS v(kind, result) WHERE v.kind = t.kind) END,
        source = i.source, quality = i.quality,
        provider = i.provider, model = i.model, error = i.error, worker_id = NULL, leader_id = NULL, finished_at = now(),
        started_at = CASE WHEN i.status = 'succeeded' THEN coalesce(t.started_at, now()) ELSE t.started_at END
      -- Every statement locks budget windows before tasks.
      FROM input i, (SELECT count(*) FROM booked) b
      WHERE t.id = i.id AND ${STATUS} = ANY (CASE i.from_status WHEN 'live' THEN ARRAY['queued', 'running'] ELSE ARRAY[i.from_status] END)
        AND (i.epoch IS NULL OR t.epoch = i.epoch) AND (i.worker_id IS NULL OR t.worker_id = i.worker_id)
      RETURNING i.ord, t.kind, CASE WHEN t.kind = ANY($1) THEN t.result->>'decision' = 'review' END AS unsure,
        t.cache_key IS NOT NULL AND EXISTS (SELECT FROM tasks f WHERE f.leader_id = t.id) AS leads,
        t.id, t.api_key_id, t.status, t.webhook_url, ${SECONDS} AS seconds
    ), notified AS (
      ${insertWebhooks('task', 'ended')}
    ), reviewed AS (
      ${insertReviews('ended')}
    )
    SELECT ord::int AS ord, kind, leads, seconds FROM ended`,
}

/**
 * Every terminal transition goes through here. It is a compare-and-set: `ended: false` means that the task had ended already
 * or the claim was lost. The attempt is settled in both cases. Repeating a committed outcome changes nothing.
 * @param onFinished receives the tasks that ended, including followers
 */
export function createFinisher(
  db: Db,
  onFinished: (tasks: FinishedTask[]) => void,
  { lingerMs = 0, noVerdicts = new Map() }: { lingerMs?: number; noVerdicts?: NoVerdicts } = {},
): FinishTask {
  const kinds = [...noVerdicts.keys()]
  const results = [...noVerdicts.values()].map(result => JSON.stringify(result))
  const release = createFollowerRelease(db, onFinished, kinds)
  const finish = coalesce<Item, { ended: boolean }>({
    max: 500,
    maxWeight: 4_000_000,
    weigh: one => one.resultJson?.length ?? 0,
    ...linger(lingerMs),
    splitOnError,
    flush: async items => {
      const rows = await db.query<{ ord: number; kind: string; leads: boolean; seconds: number | null }>(
        finishStatement,
        [kinds, results, ...outcomeColumns.values(items), ...settlementValues(items)],
      )
      const ended = new Set(rows.map(row => row.ord))
      if (rows.length > 0) {
        onFinished(
          rows.map(row => {
            const { id, status, source, result } = items[row.ord - 1]!
            return { id, kind: row.kind, status, source: source ?? null, seconds: row.seconds, result }
          }),
        )
      }
      const leaders = rows.filter(row => row.leads).map(row => items[row.ord - 1]!)
      // Not awaited: the sweeper releases the followers that this misses, such as those that began to follow just now.
      for (const { id, result } of leaders) void release({ id, result }).catch(() => undefined)
      return items.map((_, index) => ({ ended: ended.has(index + 1) }))
    },
  })
  return outcome => finish({ ...outcome, resultJson: jsonOrNull(outcome.result) })
}

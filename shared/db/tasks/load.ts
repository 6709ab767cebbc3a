import { coalesce, linger } from '#shared/concurrency/coalesce.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { defineColumns } from '../columns.ts'
import { type Db, splitOnError } from '../pool.ts'
import type { NewTask } from './new-task.ts'
import { STATUS, type TaskRow } from './row.ts'

/** An answer that failed its check. `maxTokens`: the output limit of its request. */
export type RejectedAnswer = {
  provider: string
  model: string
  reason: string
  finishReason: FinishReason | null
  maxTokens: number
}

/** The data a worker needs to run a task. */
export type RunnableTask = Pick<
  TaskRow,
  'id' | 'kind' | 'queue' | 'priority' | 'api_key_id' | 'input' | 'options' | 'epoch' | 'attempts' | 'tries'
> & {
  cache_key: Buffer | null
  /** The batch that this line belongs to. The worker of a chunk runs it, without a queue. */
  batch_id: string | null
  /** Milliseconds until the deadline, by Postgres's clock. */
  left_ms: number
  /** Milliseconds since the task became due. */
  waited_ms: number
  /** W3C trace context of the submission. */
  traceparent: string | null
  /** Providers and models (`<provider>/<model>`) that can never answer this task. */
  dead_ends: string[]
  /** Answers that failed their check in earlier runs, oldest first. */
  rejected: RejectedAnswer[]
}

/** A task that is not stored yet, as a worker would load it. */
export const toRunnable = (task: NewTask): RunnableTask => ({
  id: task.id,
  kind: task.kind,
  queue: task.queue,
  priority: task.priority,
  api_key_id: task.apiKeyId,
  input: task.input,
  options: task.options as RunnableTask['options'],
  epoch: 0,
  attempts: 0,
  tries: 0,
  cache_key: task.cacheKey,
  batch_id: null,
  left_ms: task.deadlineSeconds * 1000,
  waited_ms: 0,
  traceparent: task.traceparent,
  dead_ends: [],
  rejected: [],
})

type Job = { id: string; epoch: number }
const jobColumns = defineColumns<Job>([
  ['id', 'uuid', job => job.id],
  ['epoch', 'int', job => job.epoch],
])

// A line that is retried with its batch starts afresh: only the attempts of its current run count.
const loadStatement = {
  name: 'tasks_load',
  text: `SELECT t.id, t.kind, t.queue, t.priority, t.api_key_id, t.input, t.options, t.epoch, t.attempts, t.tries, t.cache_key, t.batch_id,
      (extract(epoch FROM t.deadline_at - now()) * 1000)::float8 AS left_ms,
      (extract(epoch FROM now() - greatest(t.run_at, t.created_at)) * 1000)::float8 AS waited_ms,
      t.traceparent,
      CASE WHEN t.attempts = 0 THEN '{}' ELSE ARRAY(
        SELECT a.provider || '/' || a.model FROM attempts a WHERE a.task_id = t.id AND a.outcome = ANY($1)
          AND (t.batch_id IS NULL OR a.n > t.attempts - t.tries)
      ) END AS dead_ends,
      CASE WHEN t.attempts = 0 THEN '[]' ELSE coalesce((
        SELECT json_agg(json_build_object('provider', a.provider, 'model', a.model, 'reason', coalesce(a.error->>'message', ''),
          'finishReason', a.finish_reason, 'maxTokens', a.booked_output_tokens) ORDER BY a.n)
        FROM attempts a WHERE a.task_id = t.id AND a.outcome = 'rejected' AND (t.batch_id IS NULL OR a.n > t.attempts - t.tries)
      ), '[]') END AS rejected
    FROM ${jobColumns.unnest('i', 2)} JOIN tasks t ON t.id = i.id AND t.epoch = i.epoch
    WHERE ${STATUS} = 'queued'`,
}

/**
 * Loads dispatched tasks. Jobs that are loaded together share a statement.
 * @param deadEndOutcomes outcomes after which a provider's model can never answer the task
 * @returns null: the dispatch is outdated (the task was cancelled, expired, taken over or done)
 */
export function createTaskLoader(
  db: Db,
  deadEndOutcomes: readonly string[],
  lingerMs = 0,
): (job: Job) => Promise<RunnableTask | null> {
  return coalesce({
    max: 500,
    ...linger(lingerMs),
    splitOnError,
    flush: async jobs => {
      const rows = await db.query<RunnableTask>(loadStatement, [deadEndOutcomes, ...jobColumns.values(jobs)])
      const byId = new Map(rows.map(row => [row.id, row]))
      return jobs.map(job => byId.get(job.id) ?? null)
    },
  })
}

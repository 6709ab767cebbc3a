import type { TaskError } from '#shared/errors.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'

export const TASK_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired'] as const
export type TaskStatus = (typeof TASK_STATUSES)[number]
export type TerminalStatus = Exclude<TaskStatus, 'queued' | 'running'>
export const isTerminal = (status: TaskStatus): status is TerminalStatus => status !== 'queued' && status !== 'running'

export type Source = 'ai' | 'cache' | 'precomputed' | 'rules' | 'demo'
export type Quality = 'high' | 'medium' | 'low'

/** A dispatch of a task or chunk. The id and the epoch make the job id in the queue. */
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
  /** Attempts that count against the retry limit. */
  tries: number
  result: unknown
  source: Source | null
  quality: Quality | null
  provider: string | null
  model: string | null
  error: TaskError | null
  /** Why the model stopped writing the result; null: unknown, or no model wrote it. */
  finish_reason: FinishReason | null
  /** Number of values removed from the result, by type. */
  output_filtered: Record<string, number> | null
  /** null, like `variant`: the task belongs to no experiment. */
  experiment: string | null
  variant: string | null
  created_at: Date
  started_at: Date | null
  finished_at: Date | null
}

/** A task that has ended, for its waiters, the metrics and the holder of its claim. */
export type FinishedTask = {
  id: string
  kind: string
  status: TerminalStatus
  source: Source | null
  /** Seconds from acceptance to the end; null for the line of a batch. */
  seconds: number | null
  /** Set if the task succeeded. */
  result: unknown
}

/**
 * `t.status` for statements that find their rows by id. Written so that no partial index matches it: with the bare column and
 * statistics from before a burst, the planner reads every queued task to find thirty.
 */
export const STATUS = "(t.status || '')"

/** Seconds from acceptance to the end of task `t`. NULL for lines: they wait for their batch and would distort the metric. */
export const SECONDS = 'CASE WHEN t.batch_id IS NULL THEN extract(epoch FROM t.finished_at - t.created_at)::float8 END'

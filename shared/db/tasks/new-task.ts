import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { Column } from '../columns.ts'
import { jsonOrNull } from '../json.ts'

export type NewTask = {
  id: string
  kind: string
  queue: string
  priority: string
  apiKeyId: string
  input: unknown
  options: unknown
  metadata: unknown
  deadlineSeconds: number
  /** Whether the caller dispatches the task; false: it waits in its key's backlog. */
  dispatched: boolean
  /** SHA-256 of the canonical request; null: the task neither reads nor fills the cache. */
  cacheKey: Buffer | null
  /** Receives a webhook when the task ends. */
  webhookUrl: string | null
  /** The experiment and the assigned variant; null: none. */
  exposure: { experiment: string; variant: string; userHash: Buffer } | null
  /** See the column `stored`; absent: null. */
  stored?: boolean
  /** W3C trace context of the submission; null: not traced. */
  traceparent: string | null
  /** A cached answer: the row is written as succeeded. */
  answer: { result: unknown; provider: string; model: string; finishReason?: FinishReason | null } | null
  idempotency: { key: string; requestHash: Buffer } | null
}

export type SerializedTask = Omit<NewTask, 'input' | 'options' | 'metadata'> & {
  input: string
  options: string
  metadata: string | null
  result: string | null
}

export const serializeTask = (task: NewTask): SerializedTask => ({
  ...task,
  input: JSON.stringify(task.input),
  options: JSON.stringify(task.options),
  metadata: jsonOrNull(task.metadata),
  // Not jsonOrNull: an answer may be null.
  result: task.answer && JSON.stringify(task.answer.result),
})

/** What the client submitted, with the names of the columns of `tasks`. */
export const SUBMITTED_COLUMNS: readonly Column<SerializedTask>[] = [
  ['queue', 'text', one => one.queue],
  ['priority', 'text', one => one.priority],
  ['input', 'json', one => one.input],
  ['options', 'json', one => one.options],
  ['metadata', 'json', one => one.metadata],
  ['cache_key', 'bytea', one => one.cacheKey],
  ['webhook_url', 'text', one => one.webhookUrl],
  ['experiment', 'text', one => one.exposure?.experiment ?? null],
  ['variant', 'text', one => one.exposure?.variant ?? null],
  ['user_hash', 'bytea', one => one.exposure?.userHash ?? null],
  ['stored', 'boolean', one => one.stored ?? null],
  ['traceparent', 'text', one => one.traceparent],
]

/** Names of the columns that every statement that inserts tasks takes from the relation with `SUBMITTED_COLUMNS`. */
export const SUBMITTED = ['id', 'kind', 'api_key_id', ...SUBMITTED_COLUMNS.map(([name]) => name)].join(', ')

export const DEADLINE: Column<SerializedTask> = ['deadline_seconds', 'int', one => one.deadlineSeconds]

/** The JSON of the API. `wire.test.ts` checks these types against the schemas of the server. */

export type TaskStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'expired'

export type TaskOptions = {
  /** Use only this provider. */
  provider?: string
  /** `<provider>/<model>` names both; `auto` chooses by the prompt. */
  model?: string
  max_tokens?: number
  temperature?: number
  priority?: 'interactive' | 'normal' | 'low'
  /** Whole seconds, after which the task expires in any state. */
  deadline_seconds?: number
  /** Stream the text as deltas in `events`. */
  stream?: boolean
  cache?: 'use' | 'refresh' | 'off'
  on_budget?: 'fallback' | 'wait' | 'fail'
  fallback?: 'none' | 'cache' | 'rules'
  /** Version of the prompt of the kind. */
  prompt_version?: string
  /** Remove card numbers, social security numbers, IBANs and secrets from the result. */
  output_filter?: 'on' | 'off'
  /** URL for a signed event when the task has ended. */
  webhook_url?: string
  /** Your id of the user, who takes part in the experiments on the kind. Stored as a hash only. */
  user_id?: string
}

export type TaskRequest<Input = unknown> = { input: Input; options?: TaskOptions; metadata?: Record<string, unknown> }

export type AcceptedTask = {
  task_id: string
  kind: string
  status: TaskStatus
  created_at: string
  urls: { self: string; events: string; cancel: string }
}

export type TaskAttempt = {
  provider: string
  model: string
  /** `started`, then `succeeded`, `rejected`, `unknown` or why the call failed. */
  outcome: string
  finish_reason: FinishReason | null
  started_at: string
  finished_at: string | null
  /** null while the call runs. */
  cost_usd: number | null
  /** The provider reported no usage: `cost_usd` is the maximum cost of the call. */
  estimated: boolean
  error?: { code: string; message: string }
}

/** `length`: the answer was truncated at its token limit. */
export type FinishReason = 'stop' | 'length' | 'content_filter' | 'refusal' | 'tool_calls' | 'other'

/** Tokens of all calls. */
export type Usage = {
  /** Includes cached tokens. */
  input_tokens: number
  /** Includes reasoning tokens. */
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  reasoning_tokens: number
}

export type Task<Result = unknown> = {
  task_id: string
  kind: string
  status: TaskStatus
  source: 'ai' | 'cache' | 'precomputed' | 'rules' | 'demo' | null
  quality: 'high' | 'medium' | 'low' | null
  provider: string | null
  model: string | null
  /** Why the model stopped; null if no model wrote the result, or if the reason is unknown. */
  finish_reason: FinishReason | null
  usage: Usage
  /** null while a part of it is unknown. */
  cost_usd: number | null
  error: { code: string; message: string; [more: string]: unknown } | null
  /** What the output filter removed, by type. */
  output_filtered: Record<string, number> | null
  prompt_version: string | null
  /** The variant of the experiment that the task got. */
  experiment: { name: string; variant: string } | null
  metadata: Record<string, unknown> | null
  created_at: string
  started_at: string | null
  finished_at: string | null
  /** In the format of the kind; null until the task has succeeded, except for kinds with a result for failures. */
  result: Result | null
  attempts: TaskAttempt[]
  /** The last decision of a reviewer; null if there is none. */
  review: { decision: 'allow' | 'block'; decided_at: string } | null
}

export type TaskEvent<Result = unknown> =
  | { event: 'status'; id: string | null; data: { status: string; attempt: number } }
  /** With `options.stream`: the next part of the text. */
  | { event: 'delta'; id: string | null; data: { text: string } }
  /** Every `delta` so far is void. */
  | { event: 'restart'; id: string | null; data: { attempt: number } }
  /** The last event. */
  | { event: 'done'; id: string | null; data: Task<Result> }

/** In the format of OpenAI's API. Times are seconds since 1970. */
export type FileObject = {
  id: string
  object: 'file'
  bytes: number
  created_at: number
  expires_at?: number
  filename: string
  purpose: string
  status: 'uploaded' | 'processed' | 'error'
}

export type BatchStatus =
  | 'validating'
  | 'in_progress'
  | 'finalizing'
  | 'completed'
  | 'failed'
  | 'expired'
  | 'cancelling'
  | 'cancelled'

/** An error in the input file. `line` counts from 1. */
export type BatchProblem = { code: string; line: number | null; message: string; param: string | null }

export type BatchRequest = {
  input_file_id: string
  endpoint: '/v1/chat/completions' | '/v1/responses' | '/v1/embeddings' | '/v1/moderations' | (string & {})
  completion_window?: '24h'
  metadata?: Record<string, string> | null
  output_expires_after?: { anchor: 'created_at'; seconds: number }
  /** Not in OpenAI's API: maximum cost of the batch, in dollars. */
  max_cost_usd?: number | string
  /** Not in OpenAI's API: URL for a signed event when the batch has ended. */
  webhook_url?: string
}

/** In the format of OpenAI's API. Unknown fields are absent. Times are seconds since 1970. */
export type OpenAIBatch = {
  id: string
  object: 'batch'
  endpoint: string
  model?: string
  errors?: { object: 'list'; data: BatchProblem[] }
  input_file_id: string
  completion_window: string
  status: BatchStatus
  output_file_id?: string
  error_file_id?: string
  created_at: number
  expires_at: number
  in_progress_at?: number
  finalizing_at?: number
  completed_at?: number
  failed_at?: number
  expired_at?: number
  cancelling_at?: number
  cancelled_at?: number
  request_counts: { total: number; completed: number; failed: number }
  metadata: Record<string, string> | null
  /** Present when the batch has ended. */
  usage?: {
    input_tokens: number
    input_tokens_details: { cached_tokens: number }
    output_tokens: number
    output_tokens_details: { reasoning_tokens: number }
    total_tokens: number
  }
}

/** A batch with its progress, rate and cost. */
export type Batch = {
  id: string
  status: BatchStatus
  /** null for a batch of OpenAI's API, which has an `endpoint`. */
  kind: string | null
  endpoint: string | null
  /** Lines by status. `total` is 0 until they have been counted. */
  counts: { total: number; succeeded: number; failed: number; cancelled: number; expired: number }
  /** Recent rate of finished lines; null unless the batch runs. */
  rate_per_second: number | null
  eta_seconds: number | null
  usage: Usage
  /** So far. */
  cost_usd: number
  /** The maximum cost if each line takes one call. */
  cost_bound_usd: number | null
  max_cost_usd: number | null
  /** The model, if all lines name the same. */
  model: string | null
  /** Why it failed. */
  errors: BatchProblem[] | null
  metadata: Record<string, unknown> | null
  input_file_id: string
  output_file_id: string | null
  error_file_id: string | null
  created_at: string
  in_progress_at: string | null
  finished_at: string | null
  expires_at: string
  urls: { self: string; results: string; events: string; cancel: string; retry: string }
}

export type Page<T> = { object: 'list'; data: T[]; first_id: string | null; last_id: string | null; has_more: boolean }

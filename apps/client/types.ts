/** What the API takes and gives, as JSON. The server's own schemas are the truth; `wire.test.ts` holds these against them. */

export type TaskStatus = 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled' | 'expired'

export type TaskOptions = {
  /** Ask only this one. */
  provider?: string
  /** `<provider>/<model>` names both; `auto` chooses by the prompt. */
  model?: string
  max_tokens?: number
  temperature?: number
  priority?: 'interactive' | 'normal' | 'low'
  /** Whole seconds; after this the task expires, whatever it is doing. */
  deadline_seconds?: number
  /** Keep the text as the model writes it, for `events`. */
  stream?: boolean
  cache?: 'use' | 'refresh' | 'off'
  on_budget?: 'fallback' | 'wait' | 'fail'
  fallback?: 'none' | 'cache' | 'rules'
  /** Ask with this version of the kind's prompt. */
  prompt_version?: string
  /** Take card numbers, social security numbers, IBANs and secrets out of the result. */
  output_filter?: 'on' | 'off'
  /** Where a signed event is sent when the task has ended. */
  webhook_url?: string
  /** Your id of the user whom the task is for: it takes part in the experiment on its kind. Kept as a hash only. */
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
  started_at: string
  finished_at: string | null
  /** null while it is under way. */
  cost_usd: number | null
  /** Nobody said what the call cost: `cost_usd` is the most that it can have cost. */
  estimated: boolean
  error?: { code: string; message: string }
}

export type Task<Result = unknown> = {
  task_id: string
  kind: string
  status: TaskStatus
  source: 'ai' | 'cache' | 'precomputed' | 'rules' | null
  quality: 'high' | 'medium' | 'low' | null
  provider: string | null
  model: string | null
  usage: { input_tokens: number; output_tokens: number }
  /** null while any part of it is not known. */
  cost_usd: number | null
  error: { code: string; message: string; [more: string]: unknown } | null
  /** What was taken out of the result, by type. */
  output_filtered: Record<string, number> | null
  prompt_version: string | null
  /** What it got of which experiment. */
  experiment: { name: string; variant: string } | null
  metadata: Record<string, unknown> | null
  created_at: string
  started_at: string | null
  finished_at: string | null
  /** Of the kind's own shape; null until it has succeeded, but for kinds that say what no answer means. */
  result: Result | null
  attempts: TaskAttempt[]
  /** What a person decided, the last time, where moderation left it open; null: nobody has. */
  review: { decision: 'allow' | 'block'; decided_at: string } | null
}

export type TaskEvent<Result = unknown> =
  | { event: 'status'; id: string | null; data: { status: string; attempt: number } }
  /** With `options.stream`: more of the text. */
  | { event: 'delta'; id: string | null; data: { text: string } }
  /** Every `delta` so far is void. */
  | { event: 'restart'; id: string | null; data: { attempt: number } }
  /** The last one. */
  | { event: 'done'; id: string | null; data: Task<Result> }

/** As OpenAI's API has it; times are seconds since 1970. */
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

/** What is wrong with a line of the input file; `line` counts from 1. */
export type BatchProblem = { code: string; line: number | null; message: string; param: string | null }

export type BatchRequest = {
  input_file_id: string
  endpoint: '/v1/chat/completions' | '/v1/responses' | '/v1/embeddings' | '/v1/moderations' | (string & {})
  completion_window?: '24h'
  metadata?: Record<string, string> | null
  output_expires_after?: { anchor: 'created_at'; seconds: number }
  /** Not in OpenAI's API: the most that the batch may cost, dollars. */
  max_cost_usd?: number | string
  /** Not in OpenAI's API: where a signed event is sent when it has ended. */
  webhook_url?: string
}

/** As OpenAI's API has it: what is absent is not known (yet); times are seconds since 1970. */
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
  /** When it has ended. */
  usage?: {
    input_tokens: number
    input_tokens_details: { cached_tokens: number }
    output_tokens: number
    output_tokens_details: { reasoning_tokens: number }
    total_tokens: number
  }
}

/** A batch with what OpenAI's object does not tell: how far it is, how fast, and at what cost. */
export type Batch = {
  id: string
  status: BatchStatus
  /** null: it is one of OpenAI's API, of `endpoint`. */
  kind: string | null
  endpoint: string | null
  /** Lines. `total` is 0 until they have been counted. */
  counts: { total: number; succeeded: number; failed: number; cancelled: number; expired: number }
  /** Lines that ended, of late; null unless it runs. */
  rate_per_second: number | null
  eta_seconds: number | null
  usage: { input_tokens: number; output_tokens: number }
  /** So far. */
  cost_usd: number
  /** The most that it can cost if each line is asked once. */
  cost_bound_usd: number | null
  max_cost_usd: number | null
  /** If all lines name the same. */
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

export type BatchStatus =
  | 'validating'
  | 'in_progress'
  | 'finalizing'
  | 'completed'
  | 'failed'
  | 'expired'
  | 'cancelling'
  | 'cancelled'

export type BatchProblem = { line: number | null; code: string; message: string; param: string | null }

export type BatchRow = {
  id: string
  api_key_id: string
  surface: 'openai' | 'native'
  endpoint: string | null
  kind: string | null
  status: BatchStatus
  input_file_id: string
  output_file_id: string | null
  error_file_id: string | null
  mapping: unknown
  options: Record<string, unknown>
  priority: string
  metadata: Record<string, unknown> | null
  completion_window: string
  output_expires_seconds: number | null
  webhook_url: string | null
  max_cost_usd: string | null
  bound_usd: string | null
  model: string | null
  errors: BatchProblem[] | null
  /** Number of lines; 0 until validation has counted them. */
  total: number
  created_at: Date
  in_progress_at: Date | null
  finalizing_at: Date | null
  completed_at: Date | null
  failed_at: Date | null
  expired_at: Date | null
  cancelling_at: Date | null
  cancelled_at: Date | null
  expires_at: Date
}

/** The select list of a `BatchRow`, for batches `b`. */
export const BATCH_COLUMNS = `b.id, b.api_key_id, b.surface, b.endpoint, b.kind, b.status, b.input_file_id, b.output_file_id, b.error_file_id,
  b.mapping, b.options, b.priority, b.metadata, b.completion_window, b.output_expires_seconds, b.webhook_url,
  trim_scale(b.max_cost_usd)::text AS max_cost_usd, trim_scale(b.bound_usd)::text AS bound_usd, b.model, b.errors, b.total,
  b.created_at, b.in_progress_at, b.finalizing_at, b.completed_at, b.failed_at, b.expired_at, b.cancelling_at, b.cancelled_at,
  b.expires_at`

/** SQL list of the statuses of live batches. The predicate of the index `batches_live`. */
export const LIVE_STATUSES = "('validating', 'in_progress', 'finalizing', 'cancelling')"

import { Type } from 'typebox'
import type { BatchView } from '#shared/db/batches/read.ts'
import type { BatchStatus } from '#shared/db/batches/row.ts'
import { toWire } from '#shared/ids.ts'
import { nullable, timestamp, toUnixTime, unixTime } from '../http/schemas.ts'
import { usageJson, usageSchema } from '../tasks/usage-json.ts'

/** Batches in JSON: native, and as in OpenAI's API. */

const BATCH_STATUSES = [
  'validating',
  'in_progress',
  'finalizing',
  'completed',
  'failed',
  'expired',
  'cancelling',
  'cancelled',
] as const satisfies readonly BatchStatus[]
const ENDED: ReadonlySet<BatchStatus> = new Set(['completed', 'failed', 'expired', 'cancelled'])
export const hasEnded = (status: BatchStatus): boolean => ENDED.has(status)

const id = Type.String({ examples: ['batch_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] })
const fileId = Type.String({ examples: ['file-019a9f0c5d7e7cc2a1b2c3d4e5f60718'] })

export const problemSchema = Type.Object(
  {
    code: Type.String(),
    line: nullable(Type.Integer()),
    message: Type.String(),
    param: nullable(Type.String()),
  },
  { description: 'An error in a line of the input. A batch with errors is not run.' },
)

export const batchSchema = Type.Object({
  id,
  status: Type.Enum(BATCH_STATUSES),
  kind: nullable(Type.String({ description: 'null for a batch of OpenAI’s API, which has an `endpoint`.' })),
  endpoint: nullable(Type.String()),
  counts: Type.Object(
    {
      total: Type.Integer(),
      succeeded: Type.Integer(),
      failed: Type.Integer(),
      cancelled: Type.Integer(),
      expired: Type.Integer(),
    },
    { description: 'Numbers of lines. `total` is 0 until the input was read.' },
  ),
  rate_per_second: nullable(
    Type.Number({ description: 'Lines per second that ended in the last minute. null unless the batch runs.' }),
  ),
  eta_seconds: nullable(Type.Number({ description: 'The time until the other lines end at this rate.' })),
  usage: usageSchema,
  cost_usd: Type.Number({ description: 'The cost so far.' }),
  cost_bound_usd: nullable(Type.Number({ description: 'The maximum cost with one call per line.' })),
  max_cost_usd: nullable(Type.Number()),
  model: nullable(Type.String({ description: 'The model, if all lines name the same one.' })),
  errors: nullable(Type.Array(problemSchema)),
  metadata: nullable(Type.Record(Type.String(), Type.Unknown())),
  input_file_id: fileId,
  output_file_id: nullable(fileId),
  error_file_id: nullable(fileId),
  created_at: timestamp,
  in_progress_at: nullable(timestamp),
  finished_at: nullable(timestamp),
  expires_at: timestamp,
  urls: Type.Object({
    self: Type.String(),
    results: Type.String(),
    events: Type.String(),
    cancel: Type.String(),
    retry: Type.String(),
  }),
})

export const batchUrl = (id: string) => `/api/v1/batches/${toWire('batch', id)}`

const fileOrNull = (id: string | null) => (id === null ? null : toWire('file', id))
const amount = (usd: string | null) => (usd === null ? null : Number(usd))

/** When the batch reached its final status. */
const finishedAt = (batch: BatchView): Date | null =>
  hasEnded(batch.status) ? (batch.completed_at ?? batch.failed_at ?? batch.expired_at ?? batch.cancelled_at) : null

export function batchJson(batch: BatchView) {
  const self = batchUrl(batch.id)
  const { total, succeeded, failed, cancelled, expired } = batch
  return {
    id: toWire('batch', batch.id),
    status: batch.status,
    kind: batch.kind,
    endpoint: batch.endpoint,
    counts: { total, succeeded, failed, cancelled, expired },
    rate_per_second: batch.rate,
    eta_seconds: batch.eta_seconds === null ? null : Math.ceil(batch.eta_seconds),
    usage: usageJson(batch),
    cost_usd: Number(batch.cost_usd),
    cost_bound_usd: amount(batch.bound_usd),
    max_cost_usd: amount(batch.max_cost_usd),
    model: batch.model,
    errors: batch.errors,
    metadata: batch.metadata,
    input_file_id: toWire('file', batch.input_file_id),
    output_file_id: fileOrNull(batch.output_file_id),
    error_file_id: fileOrNull(batch.error_file_id),
    created_at: batch.created_at.toISOString(),
    in_progress_at: batch.in_progress_at?.toISOString() ?? null,
    finished_at: finishedAt(batch)?.toISOString() ?? null,
    expires_at: batch.expires_at.toISOString(),
    urls: {
      self,
      results: `${self}/results`,
      events: `${self}/events`,
      cancel: `${self}/cancel`,
      retry: `${self}/retry`,
    },
  }
}

const TIMESTAMPS = [
  'in_progress_at',
  'finalizing_at',
  'completed_at',
  'failed_at',
  'expired_at',
  'cancelling_at',
  'cancelled_at',
] as const
const optionalTime = Type.Optional(unixTime)

export const openAiBatchSchema = Type.Object({
  id,
  object: Type.Literal('batch'),
  endpoint: Type.String(),
  model: Type.Optional(Type.String()),
  errors: Type.Optional(Type.Object({ object: Type.Literal('list'), data: Type.Array(problemSchema) })),
  input_file_id: fileId,
  completion_window: Type.String(),
  status: Type.Enum(BATCH_STATUSES),
  output_file_id: Type.Optional(fileId),
  error_file_id: Type.Optional(fileId),
  created_at: unixTime,
  expires_at: unixTime,
  ...(Object.fromEntries(TIMESTAMPS.map(name => [name, optionalTime])) as Record<
    (typeof TIMESTAMPS)[number],
    typeof optionalTime
  >),
  request_counts: Type.Object({ total: Type.Integer(), completed: Type.Integer(), failed: Type.Integer() }),
  metadata: nullable(Type.Record(Type.String(), Type.String())),
  usage: Type.Optional(
    Type.Object({
      input_tokens: Type.Integer(),
      input_tokens_details: Type.Object({ cached_tokens: Type.Integer() }),
      output_tokens: Type.Integer(),
      output_tokens_details: Type.Object({ reasoning_tokens: Type.Integer() }),
      total_tokens: Type.Integer(),
    }),
  ),
})

/** Unknown values are absent, as in OpenAI's API. Expired and cancelled lines count as failed, because the error file has them. */
export function openAiBatchJson(batch: BatchView) {
  const times = TIMESTAMPS.flatMap(name => (batch[name] ? [[name, toUnixTime(batch[name])] as const] : []))
  return {
    id: toWire('batch', batch.id),
    object: 'batch' as const,
    endpoint: batch.endpoint ?? '',
    ...(batch.model !== null && { model: batch.model }),
    ...(batch.errors && { errors: { object: 'list' as const, data: batch.errors } }),
    input_file_id: toWire('file', batch.input_file_id),
    completion_window: batch.completion_window,
    status: batch.status,
    ...(batch.output_file_id && { output_file_id: toWire('file', batch.output_file_id) }),
    ...(batch.error_file_id && { error_file_id: toWire('file', batch.error_file_id) }),
    created_at: toUnixTime(batch.created_at),
    expires_at: toUnixTime(batch.expires_at),
    ...Object.fromEntries(times),
    request_counts: {
      total: batch.total,
      completed: batch.succeeded,
      failed: batch.failed + batch.cancelled + batch.expired,
    },
    metadata: batch.metadata as Record<string, string> | null,
    ...(hasEnded(batch.status) &&
      batch.status !== 'failed' && {
        usage: {
          input_tokens: batch.input_tokens,
          input_tokens_details: { cached_tokens: batch.cache_read_tokens },
          output_tokens: batch.output_tokens,
          output_tokens_details: { reasoning_tokens: batch.reasoning_tokens },
          total_tokens: batch.input_tokens + batch.output_tokens,
        },
      }),
  }
}

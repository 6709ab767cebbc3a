import { Type } from 'typebox'
import type { BatchStatus, BatchView } from '#shared/db/batches.ts'
import { toWire } from '#shared/ids.ts'

/** Batches on the wire: as OpenAI's API has them, and with what only we tell. */

export const BATCH_STATUSES = [
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

const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])
const moment = Type.String({ format: 'date-time' })
const id = Type.String({ examples: ['batch_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] })
const fileId = Type.String({ examples: ['file-019a9f0c5d7e7cc2a1b2c3d4e5f60718'] })

export const problemSchema = Type.Object(
  {
    code: Type.String(),
    line: nullable(Type.Integer()),
    message: Type.String(),
    param: nullable(Type.String()),
  },
  { description: 'What is wrong with a line of the input, which is why nothing of it was run.' },
)

export const batchSchema = Type.Object({
  id,
  status: Type.Enum(BATCH_STATUSES),
  kind: nullable(Type.String({ description: 'null: a batch of OpenAI’s API, of `endpoint`.' })),
  endpoint: nullable(Type.String()),
  counts: Type.Object(
    {
      total: Type.Integer(),
      succeeded: Type.Integer(),
      failed: Type.Integer(),
      cancelled: Type.Integer(),
      expired: Type.Integer(),
    },
    { description: 'Lines. `total` is 0 until they have been read.' },
  ),
  rate_per_second: nullable(Type.Number({ description: 'Lines that ended, in the last minute; null unless it runs.' })),
  eta_seconds: nullable(Type.Number({ description: 'Until the rest has ended at that rate.' })),
  usage: Type.Object({ input_tokens: Type.Integer(), output_tokens: Type.Integer() }),
  cost_usd: Type.Number({ description: 'So far.' }),
  cost_bound_usd: nullable(Type.Number({ description: 'The most that all lines can cost if each is asked once.' })),
  max_cost_usd: nullable(Type.Number()),
  model: nullable(Type.String({ description: 'If all lines name the same.' })),
  errors: nullable(Type.Array(problemSchema)),
  metadata: nullable(Type.Record(Type.String(), Type.Unknown())),
  input_file_id: fileId,
  output_file_id: nullable(fileId),
  error_file_id: nullable(fileId),
  created_at: moment,
  in_progress_at: nullable(moment),
  finished_at: nullable(moment),
  expires_at: moment,
  urls: Type.Object({
    self: Type.String(),
    results: Type.String(),
    events: Type.String(),
    cancel: Type.String(),
    retry: Type.String(),
  }),
})

export const batchUrl = (id: string) => `/api/v1/batches/${toWire('batch', id)}`

const file = (id: string | null) => (id === null ? null : toWire('file', id))
const amount = (usd: string | null) => (usd === null ? null : Number(usd))

/** When it ended, however it did. */
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
    usage: { input_tokens: batch.input_tokens, output_tokens: batch.output_tokens },
    cost_usd: Number(batch.cost_usd),
    cost_bound_usd: amount(batch.bound_usd),
    max_cost_usd: amount(batch.max_cost_usd),
    model: batch.model,
    errors: batch.errors,
    metadata: batch.metadata,
    input_file_id: toWire('file', batch.input_file_id),
    output_file_id: file(batch.output_file_id),
    error_file_id: file(batch.error_file_id),
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

const unix = Type.Integer({ description: 'Unix time, seconds.' })
const MOMENTS = [
  'in_progress_at',
  'finalizing_at',
  'completed_at',
  'failed_at',
  'expired_at',
  'cancelling_at',
  'cancelled_at',
] as const
const maybe = Type.Optional(unix)

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
  created_at: unix,
  expires_at: unix,
  ...(Object.fromEntries(MOMENTS.map(name => [name, maybe])) as Record<(typeof MOMENTS)[number], typeof maybe>),
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

const seconds = (moment: Date) => Math.floor(moment.getTime() / 1000)

/** What is not known is not there, as with OpenAI. Lines that expired or were cancelled count as failed: the error file has them. */
export function openAiBatchJson(batch: BatchView) {
  const moments = MOMENTS.flatMap(name => (batch[name] ? [[name, seconds(batch[name])] as const] : []))
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
    created_at: seconds(batch.created_at),
    expires_at: seconds(batch.expires_at),
    ...Object.fromEntries(moments),
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
          input_tokens_details: { cached_tokens: 0 },
          output_tokens: batch.output_tokens,
          output_tokens_details: { reasoning_tokens: 0 },
          total_tokens: batch.input_tokens + batch.output_tokens,
        },
      }),
  }
}

import { Type } from 'typebox'
import type { TaskSummary, TaskView } from '#shared/db/tasks/read.ts'
import { type Source, TASK_STATUSES } from '#shared/db/tasks/row.ts'
import { toWire } from '#shared/ids.ts'
import { FINISH_REASONS, type FinishReason } from '#shared/models/finish-reasons.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import type { AnsweredTask } from './submit-task.ts'
import { NO_TOKENS, usageJson, usageSchema } from './usage-json.ts'

/** Tasks in JSON. */

const SOURCES: Source[] = ['ai', 'cache', 'precomputed', 'rules', 'demo']

const finishReason = Type.Enum(FINISH_REASONS, {
  description:
    'Why the model stopped. `length`: the answer was cut off at its token limit. `refusal`: the model declined, and the text is its explanation. `content_filter`: the provider withheld the rest. null if no model wrote the answer, or if the reason is unknown.',
})

const summaryFields = {
  task_id: Type.String({ examples: ['task_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
  kind: Type.String(),
  status: Type.Enum(TASK_STATUSES),
  source: nullable(Type.Enum(SOURCES, { description: 'Where the answer came from.' })),
  quality: nullable(Type.Enum(['high', 'medium', 'low'])),
  provider: nullable(Type.String()),
  model: nullable(Type.String()),
  finish_reason: nullable(finishReason),
  usage: usageSchema,
  cost_usd: nullable(Type.Number({ description: 'null while the cost of any call is unknown.' })),
  error: nullable(Type.Object({ code: Type.String(), message: Type.String() }, { additionalProperties: true })),
  output_filtered: nullable(
    Type.Record(Type.String(), Type.Integer(), {
      description: 'The number of parts that were removed from the result, by type. null: none.',
    }),
  ),
  prompt_version: nullable(Type.String({ description: 'The version of the kind’s prompt.' })),
  experiment: nullable(
    Type.Object(
      { name: Type.String(), variant: Type.String() },
      { description: 'The experiment, and the variant that the task got.' },
    ),
  ),
  metadata: nullable(Type.Record(Type.String(), Type.Unknown())),
  created_at: timestamp,
  started_at: nullable(timestamp),
  finished_at: nullable(timestamp),
}

export const taskSummarySchema = Type.Object(summaryFields)

export const taskSchema = Type.Object({
  ...summaryFields,
  result: Type.Unknown({
    description:
      'Has the shape of the kind. null unless the task succeeded. Moderation that ended without a verdict has a result, too, which says so.',
  }),
  attempts: Type.Array(
    Type.Object({
      provider: Type.String(),
      model: Type.String(),
      outcome: Type.String({
        description: '`started`, then `succeeded`, `rejected`, `unknown` or the reason for the failure.',
      }),
      finish_reason: nullable(finishReason),
      started_at: timestamp,
      finished_at: nullable(timestamp),
      cost_usd: nullable(Type.Number({ description: 'null while the call is in flight.' })),
      estimated: Type.Boolean({
        description: 'The provider did not report the usage: `cost_usd` is an upper bound.',
      }),
      error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
    }),
    { description: 'All provider calls, oldest first.' },
  ),
  review: nullable(
    Type.Object(
      { decision: Type.Enum(['allow', 'block']), decided_at: timestamp },
      { description: 'The latest human decision, if moderation left the task to one. null: none yet.' },
    ),
  ),
})

export const acceptedSchema = Type.Object({
  task_id: Type.String(),
  kind: Type.String(),
  status: Type.Enum(TASK_STATUSES),
  created_at: timestamp,
  urls: Type.Object({ self: Type.String(), events: Type.String(), cancel: Type.String() }),
})

export const taskUrl = (id: string) => `/api/v1/tasks/${toWire('task', id)}`

export function acceptedJson(task: { id: string; kind: string; status: string; createdAt: Date }) {
  const self = taskUrl(task.id)
  return {
    task_id: toWire('task', task.id),
    kind: task.kind,
    status: task.status,
    created_at: task.createdAt.toISOString(),
    urls: { self, events: `${self}/events`, cancel: `${self}/cancel` },
  }
}

export const taskSummaryJson = (task: TaskSummary) => ({
  task_id: toWire('task', task.id),
  kind: task.kind,
  status: task.status,
  source: task.source,
  quality: task.quality,
  provider: task.provider,
  model: task.model,
  finish_reason: task.finish_reason,
  usage: usageJson(task),
  cost_usd: task.cost_usd === null ? null : Number(task.cost_usd),
  error: task.error,
  output_filtered: task.output_filtered,
  prompt_version: task.prompt_version,
  experiment: task.experiment === null ? null : { name: task.experiment, variant: task.variant! },
  metadata: task.metadata,
  created_at: task.created_at.toISOString(),
  started_at: task.started_at?.toISOString() ?? null,
  finished_at: task.finished_at?.toISOString() ?? null,
})

export const taskJson = (task: TaskView) => ({
  ...taskSummaryJson(task),
  result: task.result,
  attempts: task.attempt_list.map(attempt => ({
    provider: attempt.provider,
    model: attempt.model,
    outcome: attempt.outcome,
    finish_reason: attempt.finish_reason,
    started_at: new Date(attempt.started_at).toISOString(),
    finished_at: attempt.finished_at === null ? null : new Date(attempt.finished_at).toISOString(),
    cost_usd: attempt.cost_usd === null ? null : Number(attempt.cost_usd),
    estimated: attempt.estimated,
    ...(attempt.error && { error: attempt.error }),
  })),
  review: task.review && { ...task.review, decided_at: new Date(task.review.decided_at).toISOString() },
})

/** A task that was answered from the cache on arrival, without reading it back. */
export const answeredJson = (
  task: AnsweredTask,
  answer: { result: unknown; provider: string; model: string; finishReason?: FinishReason | null },
  at: Date,
): ReturnType<typeof taskJson> => {
  const time = at.toISOString()
  return {
    task_id: toWire('task', task.id),
    kind: task.kind,
    status: 'succeeded',
    source: 'cache',
    quality: 'high',
    provider: answer.provider,
    model: answer.model,
    finish_reason: answer.finishReason ?? null,
    usage: usageJson(NO_TOKENS),
    cost_usd: 0,
    error: null,
    output_filtered: null,
    prompt_version: task.options.prompt_version,
    experiment: task.exposure && { name: task.exposure.experiment, variant: task.exposure.variant },
    metadata: task.metadata,
    created_at: time,
    started_at: time,
    finished_at: time,
    result: answer.result,
    attempts: [],
    review: null,
  }
}

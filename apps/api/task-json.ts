import { Type } from 'typebox'
import { type Source, TASK_STATUSES } from '#shared/db/tasks.ts'
import type { TaskSummary, TaskView } from '#shared/db/views.ts'
import { toWire } from '#shared/ids.ts'
import type { AnsweredTask } from './submit-task.ts'

/** Tasks on the wire. */

const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])
const moment = Type.String({ format: 'date-time' })
const SOURCES: Source[] = ['ai', 'cache', 'precomputed', 'rules']

const summaryFields = {
  task_id: Type.String({ examples: ['task_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
  kind: Type.String(),
  status: Type.Enum(TASK_STATUSES),
  source: nullable(Type.Enum(SOURCES, { description: 'Who answered.' })),
  quality: nullable(Type.Enum(['high', 'medium', 'low'])),
  provider: nullable(Type.String()),
  model: nullable(Type.String()),
  usage: Type.Object({ input_tokens: Type.Integer(), output_tokens: Type.Integer() }),
  cost_usd: nullable(Type.Number({ description: 'null while any part of it is not known.' })),
  error: nullable(Type.Object({ code: Type.String(), message: Type.String() }, { additionalProperties: true })),
  output_filtered: nullable(
    Type.Record(Type.String(), Type.Integer(), {
      description: 'What was taken out of the result, by type; null: nothing.',
    }),
  ),
  prompt_version: nullable(Type.String({ description: 'Of the kind’s prompt.' })),
  experiment: nullable(
    Type.Object({ name: Type.String(), variant: Type.String() }, { description: 'What it got of which experiment.' }),
  ),
  metadata: nullable(Type.Record(Type.String(), Type.Unknown())),
  created_at: moment,
  started_at: nullable(moment),
  finished_at: nullable(moment),
}

export const taskSummarySchema = Type.Object(summaryFields)

export const taskSchema = Type.Object({
  ...summaryFields,
  result: Type.Unknown({
    description:
      'Of the kind’s own shape; null until it has succeeded. Of moderation also what ended without a verdict has one, which says so.',
  }),
  attempts: Type.Array(
    Type.Object({
      provider: Type.String(),
      model: Type.String(),
      outcome: Type.String({
        description: '`started`, then `succeeded`, `rejected`, `unknown` or why the call failed.',
      }),
      started_at: moment,
      finished_at: nullable(moment),
      cost_usd: nullable(Type.Number({ description: 'null while it is under way.' })),
      estimated: Type.Boolean({
        description: 'Nobody said what the call cost: `cost_usd` is the most that it can have cost.',
      }),
      error: Type.Optional(Type.Object({ code: Type.String(), message: Type.String() })),
    }),
    { description: 'Every provider call, oldest first.' },
  ),
  review: nullable(
    Type.Object(
      { decision: Type.Enum(['allow', 'block']), decided_at: moment },
      { description: 'What a person decided, the last time, where moderation left it open. null: nobody has.' },
    ),
  ),
})

export const acceptedSchema = Type.Object({
  task_id: Type.String(),
  kind: Type.String(),
  status: Type.Enum(TASK_STATUSES),
  created_at: moment,
  urls: Type.Object({ self: Type.String(), events: Type.String(), cancel: Type.String() }),
})

export const taskUrl = (id: string) => `/api/v1/tasks/${toWire('task', id)}`

export function accepted(task: { id: string; kind: string; status: string; createdAt: Date }) {
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
  usage: { input_tokens: task.input_tokens, output_tokens: task.output_tokens },
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
    started_at: new Date(attempt.started_at).toISOString(),
    finished_at: attempt.finished_at === null ? null : new Date(attempt.finished_at).toISOString(),
    cost_usd: attempt.cost_usd === null ? null : Number(attempt.cost_usd),
    estimated: attempt.estimated,
    ...(attempt.error && { error: attempt.error }),
  })),
  review: task.review && { ...task.review, decided_at: new Date(task.review.decided_at).toISOString() },
})

/** A task that was answered from the cache as it came, without reading it back. */
export const answeredJson = (
  task: AnsweredTask,
  answer: { result: unknown; provider: string; model: string },
  at: Date,
): ReturnType<typeof taskJson> => {
  const moment = at.toISOString()
  return {
    task_id: toWire('task', task.id),
    kind: task.kind,
    status: 'succeeded',
    source: 'cache',
    quality: 'high',
    provider: answer.provider,
    model: answer.model,
    usage: { input_tokens: 0, output_tokens: 0 },
    cost_usd: 0,
    error: null,
    output_filtered: null,
    prompt_version: task.options.prompt_version,
    experiment: task.exposure && { name: task.exposure.experiment, variant: task.exposure.variant },
    metadata: task.metadata,
    created_at: moment,
    started_at: moment,
    finished_at: moment,
    result: answer.result,
    attempts: [],
    review: null,
  }
}

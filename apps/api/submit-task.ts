import type { FastifyRequest } from 'fastify'
import { taskCacheKey } from '#shared/cache-key.ts'
import type { TaskView } from '#shared/db/views.ts'
import { SluiceError } from '#shared/errors.ts'
import { newId, toWire } from '#shared/ids.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { KeptOptions, TaskOptions } from '#shared/jobs/options.ts'
import { promptVersionOf } from '#shared/jobs/prompt.ts'
import { inSpan, type Span } from '#shared/tracing/tracing.ts'
import type { ApiDeps } from './deps.ts'
import { traceparentOf } from './plugins/trace.ts'
import { waitForEnd } from './wait.ts'

/** A task that has been checked, and how long its client waits for its end, seconds. */
export type Submission = {
  job: JobKind
  /** As `preparedInput` gave it. */
  input: unknown
  options: TaskOptions
  metadata: Record<string, unknown> | null
  wait: number
  /** Its client can be told of the end alone: it is waited for while the server drains, and what keeps it from being read is thrown. */
  needsEnd?: boolean
  idempotency: { key: string; requestHash: Buffer } | null
}

/** One that was written as ended. */
export type AnsweredTask = {
  id: string
  kind: string
  metadata: Record<string, unknown> | null
  options: { prompt_version: string }
  exposure: { experiment: string; variant: string } | null
}

type Answer = { result: unknown; provider: string; model: string }

export type Submitted =
  | { kind: 'accepted'; id: string; createdAt: Date }
  /** It ended while its client waited. */
  | { kind: 'ended'; task: TaskView }
  /** What is remembered answered it, without the queue. */
  | {
      kind: 'answered'
      task: AnsweredTask
      answer: Answer
      createdAt: Date
    }
  /** The Idempotency-Key was used before with the same request: by this task; with another one; or is being used now. */
  | { kind: 'exists'; taskId: string }
  | { kind: 'mismatch' }
  | { kind: 'in_flight' }

/** The input with what it refers to. @throws SluiceError if that is not there */
export async function preparedInput(
  { lookup }: Pick<ApiDeps, 'lookup'>,
  { apiKey }: Pick<FastifyRequest, 'apiKey'>,
  job: JobKind,
  input: unknown,
): Promise<unknown> {
  const prepared = await job.prepare(input, lookup(apiKey.id))
  if ('input' in prepared) return prepared.input
  const { field, message } = prepared.complaint
  throw new SluiceError('invalid_request', `${field} ${message}`, { context: { field } })
}

/** Accepts a task: from the cache, or as a row that the workers come to. */
export async function submitTask(deps: ApiDeps, request: FastifyRequest, one: Submission): Promise<Submitted> {
  const { job, input, metadata, wait } = one
  const observe = deps.metrics.stageSeconds.startTimer({ stage: 'accept', kind: job.kind })
  const apiKeyId = request.apiKey.id
  const { user_id: userId, ...asked } = one.options
  const exposure = userId === undefined ? null : deps.experiments.expose(job.kind, { apiKeyId, userId }, asked)
  const meant: KeptOptions = { ...exposure?.options, ...asked }
  // As it was when the task was accepted, whatever becomes the default before it runs.
  const options = { ...meant, prompt_version: promptVersionOf(job, meant) }
  const variant = exposure ? `${exposure.experiment}/${exposure.variant}` : undefined
  const cacheKey = taskCacheKey(job, { input, options, apiKeyId, variant })
  const answer = cacheKey && options.cache === 'use' ? await freshAnswer(deps, cacheKey) : null
  // What costs nothing needs no budget.
  if (!answer) deps.afford.check(job, { input, options, apiKeyId })
  const id = newId()
  const accepting = request.span && startAccept(deps, request.span, { id, job })
  const task = {
    id,
    kind: job.kind,
    queue: job.queue,
    priority: options.priority,
    apiKeyId,
    input,
    options,
    metadata,
    deadlineSeconds: options.deadline_seconds,
    dispatched: !answer && deps.room.take({ apiKeyId, priority: options.priority }),
    cacheKey,
    webhookUrl: options.webhook_url === undefined ? null : new URL(options.webhook_url).href,
    exposure,
    traceparent: accepting?.traceparent ?? traceparentOf(request),
    answer,
    idempotency: one.idempotency,
  }

  // Before the row exists, so that its end cannot be missed.
  const waiting =
    wait > 0 && !answer ? waitForEnd(deps, request, task.id, wait, { patient: one.needsEnd ?? false }) : null
  try {
    const inserting = deps.insert(task)
    const outcome = await (accepting ? inSpan(accepting, () => inserting) : inserting)
    observe()
    if (outcome.kind === 'in_flight') return outcome
    if (outcome.kind === 'exists') {
      const same = outcome.requestHash.equals(task.idempotency!.requestHash)
      return same ? { kind: 'exists', taskId: outcome.taskId } : { kind: 'mismatch' }
    }
    const { createdAt } = outcome
    deps.metrics.accepted.inc({ kind: job.kind })
    if (answer) {
      deps.metrics.ended.inc({ kind: job.kind, status: 'succeeded', source: 'cache' })
      deps.metrics.cache.inc({ kind: job.kind, outcome: 'hit' })
      const outcome = job.outcomeOf(answer.result)
      if (outcome) deps.metrics.answers.inc({ kind: job.kind, outcome })
      return { kind: 'answered', task, answer, createdAt }
    }
    if (task.dispatched) {
      // Not awaited: the row is the outbox, and the sweeper dispatches what this does not.
      deps.producer.dispatch({ id: task.id, epoch: 0, queue: task.queue, priority: task.priority }).catch(error => {
        request.log.debug({ err: error }, 'not dispatched yet')
      })
    }
    // It is accepted: whatever keeps its end from being read must not hide that.
    const ended = await waiting?.ended().catch(error => {
      if (one.needsEnd) throw error
      return null
    })
    return ended ? { kind: 'ended', task: ended } : { kind: 'accepted', id: task.id, createdAt }
  } finally {
    waiting?.cancel()
  }
}

/** What the worker's spans are children of. */
function startAccept({ tracing }: Pick<ApiDeps, 'tracing'>, parent: Span, { id, job }: { id: string; job: JobKind }) {
  const attributes = { 'messaging.system': 'bullmq', 'messaging.operation.type': 'send' }
  return tracing?.start('accept', {
    kind: 'producer',
    parent,
    attributes: {
      ...attributes,
      'messaging.destination.name': job.queue,
      'sluice.task.id': toWire('task', id),
      'sluice.task.kind': job.kind,
    },
  })
}

async function freshAnswer(deps: ApiDeps, key: Buffer): Promise<Answer | null> {
  const found = await deps.cache.get(key)
  return found?.kind === 'fresh' ? found.entry : null
}

import type { FastifyRequest } from 'fastify'
import type { CachedAnswer } from '#shared/cache/cache.ts'
import { taskCacheKey } from '#shared/cache/cache-key.ts'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { SluiceError } from '#shared/errors.ts'
import { newId, toWire } from '#shared/ids.ts'
import type { InputContext, JobKind } from '#shared/jobs/define.ts'
import type { StoredOptions, TaskOptions } from '#shared/jobs/options.ts'
import { promptVersionOf } from '#shared/jobs/prompt.ts'
import { fieldName } from '#shared/json/schema-fault.ts'
import { inSpan, type Span } from '#shared/tracing/tracing.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidField } from '../http/invalid-field.ts'
import { traceparentOf } from '../http/trace.ts'
import { waitForEnd } from './wait.ts'

/** A checked task. `wait`: seconds that the client waits for it to end. */
export type Submission = {
  job: JobKind
  /** From `prepareInput`. */
  input: unknown
  options: TaskOptions
  metadata: Record<string, unknown> | null
  wait: number
  /** The client cannot poll: wait also while the server drains, and throw if the result cannot be read. */
  requireResult?: boolean
  idempotency: { key: string; requestHash: Buffer } | null
}

/** A task that was inserted as already ended. */
export type AnsweredTask = {
  id: string
  kind: string
  metadata: Record<string, unknown> | null
  options: { prompt_version: string }
  exposure: { experiment: string; variant: string } | null
}

export type Submitted =
  | { kind: 'accepted'; id: string; createdAt: Date }
  /** It ended while the client waited. */
  | { kind: 'ended'; task: TaskView }
  /** A cached answer was used. The task was never queued. */
  | { kind: 'answered'; task: AnsweredTask; answer: CachedAnswer; createdAt: Date }
  /** The Idempotency-Key was used before by this task, with the same request. */
  | { kind: 'exists'; taskId: string }
  /** The Idempotency-Key was used before with another request. */
  | { kind: 'mismatch' }
  /** A request with this Idempotency-Key is being accepted now. */
  | { kind: 'in_flight' }

/** Checks what the schema of the kind cannot express. @throws SluiceError invalid_request, field_too_large */
export function assertInput(job: JobKind, input: unknown): void {
  const wrong = job.validate(input)
  if (!wrong) return
  const code = wrong.tooLarge ? 'field_too_large' : 'invalid_request'
  throw new SluiceError(code, `\`${fieldName(wrong.field)}\` ${wrong.message}.`, { context: { field: wrong.field } })
}

/** The input with the resources that it refers to. @throws SluiceError invalid_request, if one is missing */
export async function prepareInput(job: JobKind, input: unknown, lookup: InputContext): Promise<unknown> {
  const prepared = await job.prepare(input, lookup)
  if ('input' in prepared) return prepared.input
  const { field, message } = prepared.fault
  throw invalidField(field, message)
}

/** Accepts a task: answers it from the cache, or inserts it for the workers. */
export async function submitTask(deps: ApiDeps, request: FastifyRequest, one: Submission): Promise<Submitted> {
  const { job, input, metadata, wait } = one
  const stopTimer = deps.metrics.stageSeconds.startTimer({ stage: 'accept', kind: job.kind })
  const apiKeyId = request.apiKey.id
  const { user_id: userId, ...requested } = one.options
  const exposure = userId === undefined ? null : deps.experiments.expose(job.kind, { apiKeyId, userId }, requested)
  const merged: StoredOptions = { ...exposure?.options, ...requested }
  // Fixed now: the default version may change before the task runs.
  const options = { ...merged, prompt_version: promptVersionOf(job, merged) }
  const variant = exposure ? `${exposure.experiment}/${exposure.variant}` : undefined
  const cacheKey = taskCacheKey(job, { input, options, apiKeyId, variant })
  const answer = cacheKey && options.cache === 'use' ? await freshAnswer(deps, cacheKey) : null
  // A cached answer costs nothing and needs no budget.
  if (!answer) deps.preflight.check(job, { input, options, apiKeyId })
  const id = newId()
  const span = request.span && startAcceptSpan(deps, request.span, { id, job })
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
    dispatched: !answer && deps.headroom.take({ apiKeyId, priority: options.priority }),
    cacheKey,
    webhookUrl: options.webhook_url === undefined ? null : new URL(options.webhook_url).href,
    exposure,
    traceparent: span?.traceparent ?? traceparentOf(request),
    answer,
    idempotency: one.idempotency,
  }

  // Watch before the row exists, so that the end cannot be missed.
  const waiting =
    wait > 0 && !answer
      ? waitForEnd(deps, request, task.id, wait, { throughShutdown: one.requireResult ?? false })
      : null
  try {
    const inserting = deps.insert(task)
    const outcome = await (span ? inSpan(span, () => inserting) : inserting)
    stopTimer()
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
      // Not awaited: the row is the outbox, and the sweeper dispatches the task if this fails.
      deps.producer.dispatch({ id: task.id, epoch: 0, queue: task.queue, priority: task.priority }).catch(error => {
        request.log.debug({ err: error }, 'task was not dispatched; the sweeper retries')
      })
    }
    // The task is accepted. A failure to read its end must not hide that.
    const ended = await waiting?.ended().catch(error => {
      if (one.requireResult) throw error
      return null
    })
    return ended ? { kind: 'ended', task: ended } : { kind: 'accepted', id: task.id, createdAt }
  } finally {
    waiting?.cancel()
  }
}

/** The parent of the worker's spans. */
function startAcceptSpan(
  { tracing }: Pick<ApiDeps, 'tracing'>,
  parent: Span,
  { id, job }: { id: string; job: JobKind },
) {
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

async function freshAnswer(deps: ApiDeps, key: Buffer): Promise<CachedAnswer | null> {
  const found = await deps.cache.get(key)
  return found?.kind === 'fresh' ? found.entry : null
}

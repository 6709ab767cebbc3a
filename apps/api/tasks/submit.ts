import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { findByIdempotencyKey } from '#shared/db/idempotency.ts'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { SluiceError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { optionsFor, type TaskOptions } from '#shared/jobs/options.ts'
import { type TargetPolicy, targetProblem } from '#shared/webhooks/target.ts'
import type { ApiDeps } from '../deps.ts'
import { idempotencyKey, mismatch, requestHash } from '../http/idempotency.ts'
import { invalidField } from '../http/invalid-field.ts'
import { assertDepth, assertSize, assertStorable, MAX_METADATA_BYTES, metadataSchema } from '../http/stored-values.ts'
import { assertInput, prepareInput, submitTask } from './submit-task.ts'
import { acceptedJson, acceptedSchema, answeredJson, taskJson, taskSchema, taskUrl } from './task-json.ts'
import { waitForEnd, waitSeconds } from './wait.ts'

/** `Retry-After` of an accepted task: when to poll it. */
const POLL_AFTER_SECONDS = 1

const headers = Type.Object({
  'idempotency-key': idempotencyKey('task'),
  'x-user-id': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      pattern: '^[\\x20-\\x7e]+$',
      'x-rule': 'printable ASCII characters',
      description: 'Same as `options.user_id`, which takes precedence.',
    }),
  ),
  traceparent: Type.Optional(
    Type.String({
      description: 'W3C trace context. The task and its calls become part of the trace (docs/tracing.md).',
    }),
  ),
  prefer: Type.Optional(
    Type.String({
      description: '`wait=N`: respond with 200 and the complete task if it ends within N seconds (at most 60).',
    }),
  ),
})

type Body = { input: unknown; options: TaskOptions; metadata?: Record<string, unknown> }

/** `POST /api/v1/tasks/{kind}`: one route per kind in the registry. */
export const submit: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  for (const job of deps.jobs.values()) {
    app.post<{ Body: Body; Headers: Record<string, string | undefined> }>(
      `/api/v1/tasks/${job.kind}`,
      {
        config: { scope: 'submit' },
        schema: {
          tags: ['tasks'],
          operationId: `submit_${job.kind}`,
          summary: job.title,
          description: job.description,
          headers,
          body: Type.Object(
            {
              input: job.input,
              options: optionsFor(job),
              metadata: Type.Optional(metadataSchema),
            },
            { additionalProperties: false, examples: [job.example], required: ['input'] },
          ),
          response: { 200: taskSchema, 202: acceptedSchema },
        },
      },
      (request, reply) => accept(deps, job, request, reply),
    )
  }

  app.post(
    '/api/v1/tasks/:kind',
    {
      config: { scope: 'submit' },
      schema: { hide: true, params: Type.Object({ kind: Type.String() }) },
      // In `onRequest`, because the body of an unknown kind need not be read.
      onRequest: async request => {
        throw unknownKind(request.params.kind, [...deps.jobs.keys()])
      },
    },
    async () => undefined,
  )
}

const unknownKind = (kind: string, kinds: string[]) =>
  new SluiceError('unknown_kind', `There is no kind "${kind.slice(0, 100)}". Kinds: ${kinds.join(', ')}.`, {
    context: { field: 'kind', kinds },
  })

type SubmitRequest = FastifyRequest<{ Body: Body; Headers: Record<string, string | undefined> }>

async function accept(deps: ApiDeps, job: JobKind, request: SubmitRequest, reply: FastifyReply) {
  const { metadata } = request.body
  checkBody(job, request.body)
  const key = request.headers['idempotency-key']
  const userId = request.headers['x-user-id']
  const options = { ...(userId !== undefined && { user_id: userId }), ...request.body.options }
  const wait = waitSeconds(request.headers.prefer)
  if (wait > 0) reply.header('preference-applied', `wait=${wait}`)
  const idempotency =
    key === undefined ? null : { key, requestHash: requestHash({ kind: job.kind, ...request.body, options }) }
  const submit = async () => {
    checkTarget(request.body, deps.config.webhookTargets)
    const input = await prepareInput(job, request.body.input, deps.lookup(request.apiKey.id))
    return await submitTask(deps, request, { job, input, options, metadata: metadata ?? null, wait, idempotency })
  }
  const outcome = await submit().catch(async error => {
    // A repeated request may fail where the first one succeeded: its collection was deleted, or a budget was lowered. Its task
    // still exists.
    if (!idempotency || !(error instanceof SluiceError)) throw error
    const earlier = await findByIdempotencyKey(deps.db, request.apiKey.id, idempotency.key)
    if (!earlier?.requestHash.equals(idempotency.requestHash)) throw error
    return { kind: 'exists', taskId: earlier.id } as const
  })
  switch (outcome.kind) {
    case 'in_flight':
      throw new SluiceError('idempotency_in_flight', undefined, { retryAfter: 1 })
    case 'mismatch':
      throw mismatch()
    case 'exists':
      return await answerRepeated(deps, request, reply, outcome.taskId, wait)
    case 'answered':
      return reply.code(200).send(answeredJson(outcome.task, outcome.answer, outcome.createdAt))
    case 'ended':
      return reply.code(200).send(taskJson(outcome.task))
    case 'accepted':
      return send202(reply, { id: outcome.id, kind: job.kind, status: 'queued', createdAt: outcome.createdAt })
  }
}

/** Answers a repeated request with the present state of its task. */
async function answerRepeated(deps: ApiDeps, request: SubmitRequest, reply: FastifyReply, id: string, wait: number) {
  const waiting = wait > 0 ? waitForEnd(deps, request, id, wait) : null
  try {
    const task = await deps.view(id)
    if (!task) throw new SluiceError('task_not_found')
    if (waiting) {
      const ended = isTerminal(task.status) ? task : await waiting.ended()
      if (ended) return reply.code(200).send(taskJson(ended))
    }
    return send202(reply, { id, kind: task.kind, status: task.status, createdAt: task.created_at })
  } finally {
    waiting?.cancel()
  }
}

function send202(reply: FastifyReply, task: Parameters<typeof acceptedJson>[0]) {
  return reply
    .code(202)
    .header('location', taskUrl(task.id))
    .header('retry-after', POLL_AFTER_SECONDS)
    .send(acceptedJson(task))
}

/** Checks what the schema cannot express. */
function checkBody(job: JobKind, body: Body): void {
  assertDepth(body.input, '/input')
  assertDepth(body.metadata, '/metadata')
  assertStorable(body)
  assertSize(body.metadata, '/metadata', MAX_METADATA_BYTES)
  assertInput(job, body.input)
}

function checkTarget({ options: { webhook_url } }: Body, targets: TargetPolicy): void {
  const wrong = webhook_url === undefined ? null : targetProblem(webhook_url, targets)
  if (wrong) throw invalidField('/options/webhook_url', wrong)
}

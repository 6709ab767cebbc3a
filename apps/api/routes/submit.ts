import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { findMade } from '#shared/db/insert.ts'
import { isTerminal } from '#shared/db/tasks.ts'
import { SluiceError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { optionsFor, type TaskOptions } from '#shared/jobs/options.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import { assertTarget, type TargetPolicy } from '#shared/webhooks/target.ts'
import type { ApiDeps } from '../deps.ts'
import { idempotencyKey, mismatch, requestHash } from '../idempotency.ts'
import { preparedInput, submitTask } from '../submit-task.ts'
import { accepted, acceptedSchema, answeredJson, taskJson, taskSchema, taskUrl } from '../task-json.ts'
import { MAX_WAIT_SECONDS, waitForEnd } from '../wait.ts'

const MAX_METADATA_BYTES = 16_384
/** What a client should wait before it polls, seconds. */
const POLL_AFTER_SECONDS = 1

const headers = Type.Object({
  'idempotency-key': idempotencyKey('task'),
  'x-user-id': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      pattern: '^[\\x20-\\x7e]+$',
      description: 'As `options.user_id`, which wins.',
    }),
  ),
  traceparent: Type.Optional(
    Type.String({
      description: 'W3C trace context: the task and its calls become part of that trace (docs/tracing.md).',
    }),
  ),
  prefer: Type.Optional(
    Type.String({ description: '`wait=N`: answer 200 with the whole task if it ends within N seconds (at most 60).' }),
  ),
})

type Body = { input: unknown; options: TaskOptions; metadata?: Record<string, unknown> }

/** `POST /api/v1/tasks/{kind}`: one route a kind, from the registry. */
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
              metadata: Type.Optional(
                Type.Record(Type.String(), Type.Unknown(), {
                  description: `Yours; given back as it is. At most ${MAX_METADATA_BYTES} bytes.`,
                }),
              ),
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
    { config: { scope: 'submit' }, schema: { hide: true, params: Type.Object({ kind: Type.String() }) } },
    async request => {
      const kinds = [...deps.jobs.keys()]
      throw new SluiceError('unknown_kind', `There is no kind "${request.params.kind.slice(0, 100)}".`, {
        context: { field: 'kind', kinds },
      })
    },
  )
}

type SubmitRequest = FastifyRequest<{ Body: Body; Headers: Record<string, string | undefined> }>

async function accept(deps: ApiDeps, job: JobKind, request: SubmitRequest, reply: FastifyReply) {
  const { metadata } = request.body
  checkBody(job, request.body)
  const key = request.headers['idempotency-key']
  const userId = request.headers['x-user-id']
  const options = { ...(userId !== undefined && { user_id: userId }), ...request.body.options }
  const wait = waitSeconds(request.headers.prefer)
  const idempotency =
    key === undefined ? null : { key, requestHash: requestHash({ kind: job.kind, ...request.body, options }) }
  const submitted = async () => {
    checkTarget(request.body, deps.config.webhookTargets)
    const input = await preparedInput(deps, request, job, request.body.input)
    return await submitTask(deps, request, { job, input, options, metadata: metadata ?? null, wait, idempotency })
  }
  const outcome = await submitted().catch(async error => {
    // What stood in no way of the first request may stand in that of the same one now: its collection is gone, a budget is
    // smaller. Its task is there all the same.
    if (!idempotency || !(error instanceof SluiceError)) throw error
    const made = await findMade(deps.db, request.apiKey.id, idempotency.key)
    if (!made?.requestHash.equals(idempotency.requestHash)) throw error
    return { kind: 'exists', taskId: made.id } as const
  })
  switch (outcome.kind) {
    case 'in_flight':
      throw new SluiceError('idempotency_in_flight', undefined, { retryAfter: 1 })
    case 'mismatch':
      throw mismatch()
    case 'exists':
      return await answerAgain(deps, request, reply, outcome.taskId, wait)
    case 'answered':
      return reply.code(200).send(answeredJson(outcome.task, outcome.answer, outcome.createdAt))
    case 'ended':
      return reply.code(200).send(taskJson(outcome.task))
    case 'accepted':
      return send202(reply, { id: outcome.id, kind: job.kind, status: 'queued', createdAt: outcome.createdAt })
  }
}

/** The task that this Idempotency-Key made before, as it is now. */
async function answerAgain(deps: ApiDeps, request: SubmitRequest, reply: FastifyReply, id: string, wait: number) {
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

function send202(reply: FastifyReply, task: Parameters<typeof accepted>[0]) {
  return reply
    .code(202)
    .header('location', taskUrl(task.id))
    .header('retry-after', POLL_AFTER_SECONDS)
    .send(accepted(task))
}

/** What the route's schema cannot say. */
function checkBody(job: JobKind, body: Body): void {
  for (const field of ['input', 'metadata'] as const) {
    if (!isTooDeep(body[field])) continue
    throw new SluiceError('invalid_request', `/${field} is nested deeper than ${MAX_DEPTH} levels`, {
      context: { field: `/${field}` },
    })
  }
  const unstorable = findUnstorable(body)
  if (unstorable !== null) throw new SluiceError('invalid_text', undefined, { context: { field: unstorable } })
  if (body.metadata && Buffer.byteLength(JSON.stringify(body.metadata)) > MAX_METADATA_BYTES) {
    throw new SluiceError('field_too_large', undefined, {
      context: { field: '/metadata', limit_bytes: MAX_METADATA_BYTES },
    })
  }
  const wrong = job.validate(body.input)
  if (!wrong) return
  const code = wrong.tooLarge ? 'field_too_large' : 'invalid_request'
  throw new SluiceError(code, `${wrong.field} ${wrong.message}`, { context: { field: wrong.field } })
}

function checkTarget({ options: { webhook_url } }: Body, targets: TargetPolicy): void {
  const target = webhook_url === undefined ? null : assertTarget(webhook_url, targets)
  if (!target) return
  const field = '/options/webhook_url'
  throw new SluiceError('invalid_request', `${field} ${target}`, { context: { field } })
}

function waitSeconds(prefer: string | undefined): number {
  const seconds = /(?:^|[,;\s])wait=(\d{1,9})(?:$|[,;\s])/i.exec(prefer ?? '')?.[1]
  return seconds === undefined ? 0 : Math.min(Number(seconds), MAX_WAIT_SECONDS)
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { isTerminal, TASK_STATUSES } from '#shared/db/tasks.ts'
import { createLister, readInput, type TaskView } from '#shared/db/views.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { taskJson, taskSchema, taskSummaryJson, taskSummarySchema } from '../task-json.ts'
import { MAX_WAIT_SECONDS, waitForEnd } from '../wait.ts'

export const taskParams = Type.Object({ id: Type.String({ description: 'Task id, `task_…`' }) })

/** The task that a request is about, if its key may see it. @throws task_not_found */
export const ownTask = (
  deps: Pick<ApiDeps, 'view'>,
  request: FastifyRequest<{ Params: { id: string } }>,
): Promise<TaskView> => taskOf(deps, request, request.params.id)

/** The same of a task that is named elsewhere. */
export async function taskOf(
  deps: Pick<ApiDeps, 'view'>,
  { apiKey }: Pick<FastifyRequest, 'apiKey'>,
  wireId: string,
): Promise<TaskView> {
  const id = fromWire('task', wireId)
  const task = id && (await deps.view(id))
  if (!task || (task.api_key_id !== apiKey.id && !apiKey.scopes.includes('admin'))) {
    throw new SluiceError('task_not_found', undefined, { context: { task_id: wireId } })
  }
  return task
}

/** Seconds after which a client should ask for a list again. */
const LIST_AGAIN_SECONDS = 2

export const tasks: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const list = createLister(deps.db)
  app.get(
    '/api/v1/tasks',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['tasks'],
        summary: 'List tasks, newest first',
        description: 'Without results and attempts. A key sees its own tasks, an admin key all.',
        querystring: Type.Object(
          {
            status: Type.Optional(Type.Enum(TASK_STATUSES)),
            kind: Type.Optional(Type.Enum([...deps.jobs.keys()])),
            after: Type.Optional(Type.String({ description: '`next` of the page before' })),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(taskSummarySchema),
            has_more: Type.Boolean(),
            next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
          }),
        },
      },
    },
    async request => {
      const { status, kind, after, limit } = request.query
      const afterId = after === undefined ? null : fromWire('task', after)
      if (after !== undefined && afterId === null) {
        throw new SluiceError('invalid_request', '/after is not a task id', {
          context: { field: '/after', in: 'querystring' },
        })
      }
      const rows = await list({
        apiKeyId: request.apiKey.scopes.includes('admin') ? null : request.apiKey.id,
        status: status ?? null,
        kind: kind ?? null,
        after: afterId,
        limit: limit + 1,
      })
      if (!rows) throw new SluiceError('server_busy', undefined, { retryAfter: LIST_AGAIN_SECONDS })
      const page = rows.slice(0, limit)
      const hasMore = rows.length > limit
      return {
        data: page.map(taskSummaryJson),
        has_more: hasMore,
        next: hasMore ? toWire('task', page.at(-1)!.id) : null,
      }
    },
  )

  app.get(
    '/api/v1/tasks/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['tasks'],
        summary: 'Read a task, or wait for its end',
        params: taskParams,
        querystring: Type.Object(
          {
            wait: Type.Integer({
              minimum: 0,
              maximum: MAX_WAIT_SECONDS,
              default: 0,
              description: 'Seconds to wait for the end.',
            }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: taskSchema },
      },
    },
    async request => {
      const task = await ownTask(deps, request)
      if (request.query.wait === 0 || isTerminal(task.status)) return taskJson(task)
      const waiting = waitForEnd(deps, request, task.id, request.query.wait)
      // It may have ended between the first look and the watch.
      const again = await deps.view(task.id).catch(error => {
        waiting.cancel()
        throw error
      })
      if (!again || isTerminal(again.status)) {
        waiting.cancel()
        return taskJson(again ?? task)
      }
      return taskJson((await waiting.ended()) ?? (await ownTask(deps, request)))
    },
  )

  app.get(
    '/api/v1/tasks/:id/input',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['tasks'],
        summary: 'Read what a task was given',
        description:
          'With what it referred to, as that was when the task was accepted: the passages found in a collection, the policy that it named.',
        params: taskParams,
        response: { 200: Type.Object({ task_id: Type.String(), kind: Type.String(), input: Type.Unknown() }) },
      },
    },
    async request => {
      const { id, kind } = await ownTask(deps, request)
      const input = await deps.outbox.read(() => readInput(deps.db, id))
      // Deleted meanwhile, by its retention.
      if (input === undefined)
        throw new SluiceError('task_not_found', undefined, { context: { task_id: request.params.id } })
      return { task_id: toWire('task', id), kind, input }
    },
  )

  app.post(
    '/api/v1/tasks/:id/cancel',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['tasks'],
        summary: 'Cancel a task',
        description:
          'A queued task never runs; a running call is aborted, wherever it runs. 409 if the task has ended.',
        params: taskParams,
        response: { 200: taskSchema },
      },
    },
    async request => {
      const task = await ownTask(deps, request)
      const { ended } = await deps.end({
        id: task.id,
        status: 'cancelled',
        from: 'live',
        epoch: null,
        workerId: null,
        error: { code: 'cancelled', message: 'Cancelled by the client.' },
        settlement: null,
      })
      const now = await ownTask(deps, request)
      if (!ended) {
        throw new SluiceError('already_finished', `The task is ${now.status}.`, {
          context: { task_id: request.params.id, status: now.status },
        })
      }
      return taskJson(now)
    },
  )
}

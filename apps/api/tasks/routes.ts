import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { createTaskLister, readTaskInput, type TaskView } from '#shared/db/tasks/read.ts'
import { isTerminal, TASK_STATUSES } from '#shared/db/tasks/row.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { mayAccess } from '../http/auth.ts'
import { serverBusy } from '../http/concurrency-limit.ts'
import { ownerFilter, pageJson, pageQuery, pageSchema, readCursor } from '../http/pagination.ts'
import { taskJson, taskSchema, taskSummaryJson, taskSummarySchema } from './task-json.ts'
import { MAX_WAIT_SECONDS, waitForEnd } from './wait.ts'

export const taskParams = Type.Object({ id: Type.String({ description: 'Task id, `task_…`' }) })

/** The task named in the path, if the key may see it. @throws SluiceError task_not_found */
export const ownTask = (
  deps: Pick<ApiDeps, 'view'>,
  request: FastifyRequest<{ Params: { id: string } }>,
): Promise<TaskView> => ownTaskById(deps, request, request.params.id)

/** The task with this id, if the key may see it. @throws SluiceError task_not_found */
export async function ownTaskById(
  deps: Pick<ApiDeps, 'view'>,
  { apiKey }: Pick<FastifyRequest, 'apiKey'>,
  wireId: string,
): Promise<TaskView> {
  const id = fromWire('task', wireId)
  const task = id && (await deps.view(id))
  if (!task || !mayAccess(apiKey, task.api_key_id)) throw taskNotFound(wireId)
  return task
}

const taskNotFound = (wireId: string) =>
  new SluiceError('task_not_found', `There is no task "${wireId.slice(0, 100)}" that this key may see.`, {
    context: { field: '/id', task_id: wireId },
  })

export const tasks: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const list = createTaskLister(deps.db)
  app.get(
    '/api/v1/tasks',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['tasks'],
        summary: 'List tasks, newest first',
        description: 'Lists tasks without results and attempts. A key sees its own tasks, an admin key all.',
        querystring: Type.Object(
          {
            status: Type.Optional(Type.Enum(TASK_STATUSES)),
            kind: Type.Optional(Type.Enum([...deps.jobs.keys()])),
            ...pageQuery(),
          },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: pageSchema(taskSummarySchema) },
      },
    },
    async request => {
      const { status, kind, after, limit } = request.query
      const afterId = await readCursor(deps.db, request, after, { kind: 'task' })
      const rows = await list({
        apiKeyId: ownerFilter(request),
        status: status ?? null,
        kind: kind ?? null,
        after: afterId,
        limit: limit + 1,
      })
      if (!rows) throw serverBusy()
      return pageJson(rows, limit, { json: taskSummaryJson, cursor: row => toWire('task', row.id) })
    },
  )

  app.get(
    '/api/v1/tasks/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['tasks'],
        summary: 'Read a task, or wait until it ends',
        params: taskParams,
        querystring: Type.Object(
          {
            wait: Type.Integer({
              minimum: 0,
              maximum: MAX_WAIT_SECONDS,
              default: 0,
              description: 'Seconds to wait for the task to end.',
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
      // The task may have ended between the first read and the watch.
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
        summary: 'Read the input of a task',
        description:
          'Includes the resources that the input referred to, as they were when the task was accepted: passages found in a collection, or the named policy.',
        params: taskParams,
        response: { 200: Type.Object({ task_id: Type.String(), kind: Type.String(), input: Type.Unknown() }) },
      },
    },
    async request => {
      const { id, kind } = await ownTask(deps, request)
      const input = await deps.responseMemory.read(() => readTaskInput(deps.db, id))
      // The retention deleted the task meanwhile.
      if (input === undefined) throw taskNotFound(request.params.id)
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
        description: 'A queued task never runs. A running call is aborted, on any worker. 409 if the task has ended.',
        params: taskParams,
        response: { 200: taskSchema },
      },
    },
    async request => {
      const task = await ownTask(deps, request)
      const { ended } = await deps.finishTask({
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

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { SluiceError } from '#shared/errors.ts'
import { readStream } from '#shared/events/stream.ts'
import { doneIdOf, type TaskEvent, taskEvents } from '#shared/events/task-events.ts'
import { toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { startEventStream } from '../http/event-stream.ts'
import { textResponse } from '../http/openapi.ts'
import { whenClosed } from '../http/when-closed.ts'
import { ownTask, taskParams } from './routes.ts'
import { taskJson } from './task-json.ts'
import { createTaskUpdates } from './task-updates.ts'

/** How soon a browser's EventSource reconnects after the connection breaks. */
const RETRY_MS = 1000

/** `GET /api/v1/tasks/{id}/events`: Server-Sent Events. */
export const events: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  app.get(
    '/api/v1/tasks/:id/events',
    {
      exposeHeadRoute: false,
      config: { scope: 'read' },
      schema: {
        tags: ['tasks'],
        summary: 'Follow a task (Server-Sent Events)',
        description:
          'Events: `status` {status, attempt}; with `options.stream` also `delta` {text} while the model writes, and `restart`: ' +
          'discard the text so far, because a new attempt began or part of the text was lost. The last event is `done`, with the ' +
          'complete task. Send `Last-Event-ID` to resume. After the id of `done` the answer is 204, and an EventSource stops reconnecting.',
        params: taskParams,
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.String()) }),
        response: {
          ...textResponse('text/event-stream', 'Events up to `done`'),
          204: { type: 'null', description: 'All events were received' },
        },
      },
    },
    async (request, reply) => {
      const leave = deps.streams.enter(request.apiKey.id)
      whenClosed(reply.raw, leave)
      const lastEventId = parseEventId(request.headers['last-event-id'])
      const { id, status, attempts } = await ownTask(deps, request)
      if (lastEventId !== null && isTerminal(status) && lastEventId >= doneIdOf(attempts))
        return reply.code(204).send(null)
      const stream = startEventStream(request, reply, deps.draining)
      reply.raw.write(`retry: ${RETRY_MS}\n\n`)
      const updates = createTaskUpdates(deps, id, stream.over)
      try {
        const source = taskEvents(
          {
            readState: updates.state,
            readView: () => deps.view(id),
            readEntries: after => readStream(deps.redis, deps.config.REDIS_PREFIX, id, after).catch(() => []),
            textOf: view => {
              const job = deps.jobs.get(view.kind)
              return job?.operation === 'chat' ? job.text(view.result) : ''
            },
            waitForChange: updates.next,
          },
          lastEventId,
        )
        for await (const event of source) {
          const text = frame(event)
          deps.responseMemory.track(reply.raw, text.length)
          if (!(await stream.send(text))) break
        }
      } catch (error) {
        // The connection ends without `done`, and the client reconnects with Last-Event-ID.
        request.log.warn({ err: error, task_id: toWire('task', id) }, 'event stream failed')
      } finally {
        updates.stop()
        stream.end()
      }
    },
  )
}

function parseEventId(header: string | undefined): number | null {
  if (header === undefined || header === '') return null
  if (/^\d{1,15}$/.test(header)) return Number(header)
  throw new SluiceError(
    'invalid_header',
    'Header `last-event-id` must be the `id` of an event of this stream, a whole number.',
    {
      context: { field: '/last-event-id', in: 'headers' },
    },
  )
}

function frame({ event, id, data }: TaskEvent): string {
  const json = JSON.stringify(event === 'done' ? taskJson(data) : data)
  return `event: ${event}\n${id === null ? '' : `id: ${id}\n`}data: ${json}\n\n`
}

import type { ServerResponse } from 'node:http'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { isTerminal } from '#shared/db/tasks.ts'
import type { TaskState } from '#shared/db/views.ts'
import { SluiceError } from '#shared/errors.ts'
import { doneIdOf, type FeedEvent, feed } from '#shared/events/feed.ts'
import { readStream } from '#shared/events/stream.ts'
import { toWire } from '#shared/ids.ts'
import { drained, dropWhenStalled } from '../backpressure.ts'
import type { ApiDeps } from '../deps.ts'
import { textResponse } from '../plugins/openapi.ts'
import { taskJson } from '../task-json.ts'
import { ownTask, taskParams } from './tasks.ts'

const KEEP_ALIVE_MS = 15_000
/** How soon a browser's EventSource comes back when the connection breaks. */
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
          '`status` {status, attempt}; with `options.stream` also `delta` {text} as the model writes it and `restart` (discard the ' +
          'text so far: a new attempt began, or part of it was lost); `done` carries the whole task and is the last. `Last-Event-ID` resumes; ' +
          'after that of `done` the answer is 204, at which an EventSource comes back no more.',
        params: taskParams,
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.String()) }),
        response: {
          ...textResponse('text/event-stream', 'The events, until `done`'),
          204: { type: 'null', description: 'It has been told of all' },
        },
      },
    },
    async (request, reply) => {
      const lastEventId = parseEventId(request.headers['last-event-id'])
      const { id, status, attempts } = await ownTask(deps, request)
      if (lastEventId !== null && isTerminal(status) && lastEventId >= doneIdOf(attempts))
        return reply.code(204).send(null)
      reply.hijack()
      const response = reply.raw
      dropWhenStalled(response)
      response.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache, no-transform',
        'x-accel-buffering': 'no',
        'x-request-id': request.id,
      })
      response.write(`retry: ${RETRY_MS}\n\n`)
      const news = createNews(deps, id, response)
      const keepAlive = setInterval(() => response.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
      try {
        const source = feed(
          {
            readState: news.state,
            readView: () => deps.view(id),
            readEntries: after => readStream(deps.redis, deps.config.REDIS_PREFIX, id, after).catch(() => []),
            textOf: view => {
              const job = deps.jobs.get(view.kind)
              return job?.operation === 'chat' ? job.text(view.result) : ''
            },
            news: news.next,
          },
          lastEventId,
        )
        for await (const event of source) {
          const text = frame(event)
          deps.outbox.sending(response, text.length)
          if (!response.write(text) && !(await drained(response, deps.draining))) break
          if (response.destroyed) break
        }
      } catch (error) {
        // The connection ends without `done`: the client comes back with Last-Event-ID.
        request.log.warn({ err: error, task_id: toWire('task', id) }, 'event stream broke off')
      } finally {
        clearInterval(keepAlive)
        news.stop()
        response.end()
      }
    },
  )
}

function parseEventId(header: string | undefined): number | null {
  if (header === undefined || header === '') return null
  const id = Number(header)
  if (!Number.isSafeInteger(id) || id < 0) {
    throw new SluiceError('invalid_header', 'Last-Event-ID is not an id of this stream.', {
      context: { field: 'Last-Event-ID' },
    })
  }
  return id
}

function frame({ event, id, data }: FeedEvent): string {
  const json = JSON.stringify(event === 'done' ? taskJson(data) : data)
  return `event: ${event}\n${id === null ? '' : `id: ${id}\n`}data: ${json}\n\n`
}

/**
 * Joins the hints of all kinds: more text, the end, the look every second, the client gone, the server stopping.
 * Postgres is asked for this one task only when its end was hinted at; otherwise the common look every second will do.
 */
function createNews({ watcher, hints, draining, state }: ApiDeps, id: string, response: ServerResponse) {
  let known: TaskState | null = null
  let outdated = true
  let pending = false
  let over = draining.aborted || response.destroyed
  let wake: (() => void) | null = null
  const notify = () => {
    pending = true
    wake?.()
  }
  const stop = () => {
    over = true
    wake?.()
  }
  const unwatch = watcher.watch(id, seen => {
    if (seen) known = seen
    else outdated = true
    notify()
  })
  const unlisten = hints.onMore(id, notify)
  response.once('close', stop)
  draining.addEventListener('abort', stop)
  return {
    async state(): Promise<TaskState | null> {
      if (outdated) {
        outdated = false
        known = await state(id)
      }
      return known
    },
    async next(): Promise<boolean> {
      if (!pending && !over) {
        await new Promise<void>(resolve => {
          wake = resolve
        })
      }
      wake = null
      pending = false
      return !over
    },
    stop() {
      unwatch()
      unlisten()
      response.off('close', stop)
      draining.removeEventListener('abort', stop)
    },
  }
}

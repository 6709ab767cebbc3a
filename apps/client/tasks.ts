import { randomUUID } from 'node:crypto'
import { SluiceApiError, SluiceConnectionError } from './errors.ts'
import { bytesOf, type Http, pause, type RequestOptions, waitBefore } from './http.ts'
import { readFrames } from './sse.ts'
import type { AcceptedTask, Task, TaskEvent, TaskRequest, TaskStatus } from './types.ts'

/** The longest wait of one request. */
const WAIT_SECONDS = 60
const BACKOFF_MS = 500

export type SubmitOptions = RequestOptions & {
  /** For 24 hours, the same key returns the same task. Default: random. */
  idempotencyKey?: string
  /** Wait this long for the finished task; at most 60. */
  waitSeconds?: number
}

export const hasEnded = (status: TaskStatus): boolean => status !== 'queued' && status !== 'running'

export function createTasks(http: Http) {
  const path = (id: string) => `/api/v1/tasks/${encodeURIComponent(id)}`

  const get = <Result = unknown>(id: string, { signal }: RequestOptions = {}) =>
    http.json<Task<Result>>({ method: 'GET', path: path(id), repeatable: true, signal })

  return {
    /** Submits a task. @returns the finished task, with a `result`, if it was cached or ends within `waitSeconds`; otherwise the accepted task */
    submit<Result = unknown>(
      kind: string,
      request: TaskRequest,
      { idempotencyKey = randomUUID(), waitSeconds = 0, signal }: SubmitOptions = {},
    ): Promise<AcceptedTask | Task<Result>> {
      return http.json({
        method: 'POST',
        path: path(kind),
        json: request,
        headers: {
          'idempotency-key': idempotencyKey,
          ...(waitSeconds > 0 && { prefer: `wait=${Math.ceil(waitSeconds)}` }),
        },
        repeatable: true,
        timeoutMs: (waitSeconds + 30) * 1000,
        signal,
      })
    },

    get,

    /** Resolves when the task has ended, at its deadline at the latest. `signal` ends the wait. */
    async wait<Result = unknown>(id: string, { signal }: RequestOptions = {}): Promise<Task<Result>> {
      for (;;) {
        const task = await http.json<Task<Result>>({
          method: 'GET',
          path: `${path(id)}?wait=${WAIT_SECONDS}`,
          repeatable: true,
          timeoutMs: (WAIT_SECONDS + 30) * 1000,
          signal,
        })
        if (hasEnded(task.status)) return task
      }
    },

    /** @throws SluiceApiError `already_finished` if the task has ended otherwise */
    async cancel(id: string, { signal }: RequestOptions = {}): Promise<Task> {
      try {
        return await http.json<Task>({ method: 'POST', path: `${path(id)}/cancel`, repeatable: true, signal })
      } catch (error) {
        if (!(error instanceof SluiceApiError && error.status === 409)) throw error
        // A repetition of a cancellation whose answer was lost.
        const task = await get(id, { signal })
        if (task.status !== 'cancelled') throw error
        return task
      }
    },

    /**
     * The events of a task, from the first to `done`. After a broken connection the stream continues where it was.
     * @throws SluiceApiError, also for an unknown task; SluiceConnectionError after `retries` failed reconnections
     */
    async *events<Result = unknown>(
      id: string,
      {
        signal,
        lastEventId = null,
        retries = 8,
      }: RequestOptions & { lastEventId?: string | null; retries?: number } = {},
    ): AsyncGenerator<TaskEvent<Result>, void, undefined> {
      let last = lastEventId
      for (let failures = 0; ; failures++) {
        const response = await http.request({
          method: 'GET',
          path: `${path(id)}/events`,
          headers: { accept: 'text/event-stream', ...(last !== null && { 'last-event-id': last }) },
          repeatable: true,
          signal,
        })
        // Every event has been delivered.
        if (response.status === 204) return
        let broke: unknown = new SluiceConnectionError(`${response.url}: the event stream ended too early`)
        const frames = readFrames(bytesOf(response, signal))
        try {
          for (;;) {
            const next = await frames.next().catch((error: unknown) => {
              broke = error
              return null
            })
            if (!next || next.done) break
            failures = 0
            last = next.value.id ?? last
            const event = { ...next.value, data: http.parseJson(next.value.data) } as TaskEvent<Result>
            yield event
            if (event.event === 'done') return
          }
        } finally {
          // A caller that leaves the loop closes the connection.
          await frames.return(undefined)
        }
        signal?.throwIfAborted()
        const wait = failures < retries ? waitBefore(broke, { repeatable: true }, BACKOFF_MS * 2 ** failures) : null
        if (wait === null) throw broke
        await pause(wait, signal)
      }
    },
  }
}

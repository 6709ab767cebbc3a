import { randomUUID } from 'node:crypto'
import { SluiceApiError, SluiceConnectionError } from './errors.ts'
import { bytesOf, type Http, pause, type RequestOptions, waitBefore } from './http.ts'
import { readFrames } from './sse.ts'
import type { AcceptedTask, Task, TaskEvent, TaskRequest, TaskStatus } from './types.ts'

/** The longest that the server waits within one request. */
const WAIT_SECONDS = 60
const BACKOFF_MS = 500

export type SubmitOptions = RequestOptions & {
  /** The same key, the same task, for 24 hours; made up if it is not given. */
  idempotencyKey?: string
  /** Let the answer be the whole task, if it ends within this time; at most 60. */
  waitSeconds?: number
}

export const hasEnded = (status: TaskStatus): boolean => status !== 'queued' && status !== 'running'

export function createTasks(http: Http) {
  const path = (id: string) => `/api/v1/tasks/${encodeURIComponent(id)}`

  const get = <Result = unknown>(id: string, { signal }: RequestOptions = {}) =>
    http.json<Task<Result>>({ method: 'GET', path: path(id), repeatable: true, signal })

  return {
    /** The task as accepted, or the whole task (it has a `result`) if it has ended: remembered, or within `waitSeconds`. */
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

    /** Resolves when the task has ended, which its deadline sees to; `signal` gives up before. */
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

    /** @throws SluiceApiError `already_finished` if it ended some other way before */
    async cancel(id: string, { signal }: RequestOptions = {}): Promise<Task> {
      try {
        return await http.json<Task>({ method: 'POST', path: `${path(id)}/cancel`, repeatable: true, signal })
      } catch (error) {
        if (!(error instanceof SluiceApiError && error.status === 409)) throw error
        // A cancellation whose answer was lost on the way has been made again.
        const task = await get(id, { signal })
        if (task.status !== 'cancelled') throw error
        return task
      }
    },

    /**
     * What happens to the task, from the beginning to `done`. A connection that breaks is made again, and goes on where it
     * was. @throws SluiceApiError, also for a task that is not there; SluiceConnectionError after some tries in vain
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
      for (let inVain = 0; ; inVain++) {
        const response = await http.request({
          method: 'GET',
          path: `${path(id)}/events`,
          headers: { accept: 'text/event-stream', ...(last !== null && { 'last-event-id': last }) },
          repeatable: true,
          signal,
        })
        // It has been told of the end before.
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
            inVain = 0
            last = next.value.id ?? last
            const event = { ...next.value, data: JSON.parse(next.value.data) } as TaskEvent<Result>
            yield event
            if (event.event === 'done') return
          }
        } finally {
          // Whoever stops listening closes the connection.
          await frames.return(undefined)
        }
        signal?.throwIfAborted()
        const wait = inVain < retries ? waitBefore(broke, { repeatable: true }, BACKOFF_MS * 2 ** inVain) : null
        if (wait === null) throw broke
        await pause(wait, signal)
      }
    },
  }
}

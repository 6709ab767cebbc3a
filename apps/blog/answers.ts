import type { FastifyBaseLogger } from 'fastify'
import { type ClientOptions, createClient, hasEnded, SluiceApiError, type Task } from '../client/index.ts'

export type Origin = { source: NonNullable<Task['source']>; quality: NonNullable<Task['quality']>; task_id: string }

export const unavailable = (code: string, message: string) =>
  Object.assign(new Error(message), { statusCode: 503, code, headers: { 'retry-after': '2' } })

/** Creates a function that runs tasks in Sluice. @param stopping ends waiting requests */
export function createTaskRunner(server: ClientOptions, log: FastifyBaseLogger, stopping: AbortSignal) {
  const { tasks } = createClient({ ...server, retries: 1, backoffMs: 200 })
  const errorOf = (error: unknown) => {
    // Sluice refuses the input.
    if (error instanceof SluiceApiError && [413, 422].includes(error.status))
      return Object.assign(new Error(error.message), { statusCode: error.status === 413 ? 413 : 400 })
    log.error({ err: error }, 'no answer from Sluice')
    return unavailable('sluice_away', 'Sluice, which generates the answers, is unavailable.')
  }
  /** Runs a task. `user` takes part in the experiments on the kind. @throws an error with a `statusCode` */
  return async <Result>(kind: string, input: object, user?: string): Promise<Origin & { result: Result }> => {
    const signal = AbortSignal.any([stopping, AbortSignal.timeout(33_000)])
    const request = { input, ...(user !== undefined && { options: { user_id: user } }) }
    const submitted = tasks.submit<Result>(kind, request, { waitSeconds: 30, signal })
    const task = await submitted.catch(error => Promise.reject(errorOf(error)))
    // The task continues. The same request gets its result later, from the cache.
    if (!('result' in task) || !hasEnded(task.status)) throw unavailable('too_slow', 'No answer yet. Try again later.')
    const { result, source, quality, task_id } = task
    if (task.status === 'succeeded' && result !== null && source && quality) return { result, source, quality, task_id }
    throw unavailable('no_answer', 'Neither a model nor a fallback has an answer.')
  }
}

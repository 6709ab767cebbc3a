import type { FastifyRequest } from 'fastify'
import { isTerminal } from '#shared/db/tasks.ts'
import type { TaskView } from '#shared/db/views.ts'
import type { ApiDeps } from './deps.ts'

export const MAX_WAIT_SECONDS = 60

export type EndWait = {
  /** Resolves with the task once it has ended; null: the time is up, the client has gone, or the server stops. */
  ended(): Promise<TaskView | null>
  cancel(): void
}

/**
 * Waits for the end of a task. Starts listening at once, so that it may be called before the task exists and misses
 * nothing. `patient`: also while the server drains.
 */
export function waitForEnd(
  deps: Pick<ApiDeps, 'view' | 'watcher' | 'draining'>,
  request: FastifyRequest,
  id: string,
  seconds: number,
  { patient = false }: { patient?: boolean } = {},
): EndWait {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const unwatch = deps.watcher.watch(id, state => {
    if (state === null || isTerminal(state.status)) resolve(true)
  })
  const timer = setTimeout(() => resolve(false), Math.min(seconds, MAX_WAIT_SECONDS) * 1000)
  const giveUp = () => resolve(false)
  request.raw.socket.once('close', giveUp)
  if (!patient) deps.draining.addEventListener('abort', giveUp)
  if ((deps.draining.aborted && !patient) || request.raw.socket.destroyed) giveUp()

  const cancel = () => {
    resolve(false)
    unwatch()
    clearTimeout(timer)
    request.raw.socket.off('close', giveUp)
    deps.draining.removeEventListener('abort', giveUp)
  }
  return {
    cancel,
    async ended() {
      try {
        if (!(await promise)) return null
        const task = await deps.view(id)
        return task && isTerminal(task.status) ? task : null
      } finally {
        cancel()
      }
    },
  }
}

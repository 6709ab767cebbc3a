import type { FastifyRequest } from 'fastify'
import type { TaskView } from '#shared/db/tasks/read.ts'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'
import { revokedKey } from '../http/auth.ts'

export const MAX_WAIT_SECONDS = 60

/** The seconds of `Prefer: wait=N` (RFC 7240), 0 if absent. Other preferences are ignored, as the RFC requires. @throws invalid_header */
export function waitSeconds(prefer: string | undefined): number {
  const wait = (prefer ?? '').split(/[,;]/).find(one => /^\s*wait\s*(=|$)/i.test(one))
  if (wait === undefined) return 0
  const seconds = /=\s*("?)(\d{1,9})\1\s*$/.exec(wait)?.[2]
  if (seconds !== undefined) return Math.min(Number(seconds), MAX_WAIT_SECONDS)
  throw new SluiceError(
    'invalid_header',
    `Header \`prefer\` must give whole seconds, such as wait=10. The server waits at most ${MAX_WAIT_SECONDS}.`,
    { context: { field: '/prefer', in: 'headers' } },
  )
}

export type EndWait = {
  /**
   * Resolves with the task when it has ended; null: the time is up, the client left, or the server stops.
   * @throws SluiceError invalid_api_key, if the key is revoked meanwhile
   */
  ended(): Promise<TaskView | null>
  cancel(): void
}

/**
 * Waits for a task to end. Starts to listen immediately, so that it can be called before the task exists without missing the
 * end. `throughShutdown`: continues while the server drains.
 */
export function waitForEnd(
  deps: Pick<ApiDeps, 'view' | 'watcher' | 'keys' | 'draining'>,
  request: FastifyRequest,
  id: string,
  seconds: number,
  { throughShutdown = false }: { throughShutdown?: boolean } = {},
): EndWait {
  const { promise, resolve } = Promise.withResolvers<boolean | 'revoked'>()
  const unwatch = deps.watcher.watch(id, state => {
    if (state === null || isTerminal(state.status)) resolve(true)
  })
  const unwatchKey = deps.keys.watch(request.apiKey, () => resolve('revoked'))
  const timer = setTimeout(() => resolve(false), Math.min(seconds, MAX_WAIT_SECONDS) * 1000)
  const giveUp = () => resolve(false)
  request.raw.socket.once('close', giveUp)
  if (!throughShutdown) deps.draining.addEventListener('abort', giveUp)
  if ((deps.draining.aborted && !throughShutdown) || request.raw.socket.destroyed) giveUp()

  const cancel = () => {
    resolve(false)
    unwatch()
    unwatchKey()
    clearTimeout(timer)
    request.raw.socket.off('close', giveUp)
    deps.draining.removeEventListener('abort', giveUp)
  }
  return {
    cancel,
    async ended() {
      try {
        const reason = await promise
        if (reason === 'revoked') throw revokedKey()
        if (!reason) return null
        const task = await deps.view(id)
        return task && isTerminal(task.status) ? task : null
      } finally {
        cancel()
      }
    },
  }
}

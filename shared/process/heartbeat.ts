import type { Db } from '#shared/db/pool.ts'
import { type WorkerState, writeHeartbeat } from '#shared/db/workers.ts'
import { repeatEvery, withDeadline } from './lifecycle.ts'
import type { Liveness } from './liveness.ts'
import type { Logger } from './logger.ts'
import { createOutageLog } from './outage-log.ts'

const POLL_MS = 100

/** The claims that this process holds, and how to stop their calls. */
export type HeldClaims = {
  list(): { id: string; epoch: number }[]
  stop(reason: 'lost' | 'no_beat', claim?: { id: string; epoch: number }): void
  readonly size: number
}

export type Heartbeat = {
  /** Milliseconds since the last heartbeat that Postgres confirmed. */
  lastBeatMs(): number
  /** Resolves once the last heartbeat is recent enough to begin something new, or the heartbeat is stopped. */
  untilHealthy(): Promise<void>
  stop(): Promise<void>
}

/**
 * Writes a heartbeat to Postgres at an interval, and stops the calls whose claims Postgres reports as gone.
 * @param options `describe` returns the current row of this process in `workers`
 * @throws if the first heartbeat fails: a process without a row must not claim
 */
export async function startHeartbeat(options: {
  db: Db
  held: HeldClaims
  liveness: Liveness
  describe: () => WorkerState | Promise<WorkerState>
  logger: Logger
}): Promise<Heartbeat> {
  const { db, held, liveness, describe, logger } = options
  let last = performance.now()
  let stopped = false

  async function once(): Promise<void> {
    const sent = performance.now()
    const lost = await withDeadline(
      Promise.resolve(describe()).then(worker => writeHeartbeat(db, worker, held.list())),
      liveness.beatTimeoutMs,
    )
    last = sent
    for (const claim of lost) held.stop('lost', claim)
  }

  const outage = createOutageLog(logger, { failure: 'heartbeat failed', recovery: 'heartbeat succeeds again' })
  /** @returns true: retry at once, after the pause that it has made */
  async function onceOrRetry(): Promise<boolean> {
    try {
      await once()
      outage.succeeded()
      return false
    } catch (error) {
      outage.failed(error)
      await new Promise(resolve => setTimeout(resolve, liveness.beatRetryMs))
      return true
    }
  }

  await once()
  const stopBeating = repeatEvery(liveness.beatMs, onceOrRetry, error =>
    logger.error({ err: error }, 'heartbeat stopped unexpectedly'),
  )
  // Independent of the heartbeats: a heartbeat that hangs must not keep the calls alive.
  let logged = false
  const watchdog = setInterval(() => {
    if (performance.now() - last < liveness.abortAfterMs) {
      logged = false
      return
    }
    if (held.size === 0) return
    if (!logged)
      logger.error({ claims: held.size }, `no heartbeat for ${liveness.abortAfterMs / 1000} s: stopping all calls`)
    logged = true
    held.stop('no_beat')
  }, liveness.beatRetryMs)

  return {
    lastBeatMs: () => performance.now() - last,
    async untilHealthy() {
      while (!stopped && performance.now() - last > liveness.unhealthyAfterMs) {
        await new Promise(resolve => setTimeout(resolve, POLL_MS))
      }
    },
    async stop() {
      stopped = true
      clearInterval(watchdog)
      await stopBeating()
    },
  }
}

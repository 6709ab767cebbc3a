import type { Db } from './db/pool.ts'
import { beat, type WorkerBeat } from './db/workers.ts'
import { every, withDeadline } from './lifecycle.ts'
import type { Logger } from './logger.ts'

const BEAT_MS = 2000
/** How soon after one that failed: when Postgres returns, the next beat should come before the claims are given up. */
const RETRY_MS = 250
/** A beat that hangs is given up; another one, over another connection, may come through. */
const BEAT_TIMEOUT_MS = 3000
/** Without a beat for this long nothing new is begun: it might be repeated soon. */
const UNFIT_AFTER_MS = 6000
const LOOK_MS = 100
/** Without a beat for this long the claims will soon be taken over: calls stop before somebody repeats them. */
const ABORT_AFTER_MS = 8000

/** The claims of this process, and how to stop their calls. */
export type Claims = {
  list(): { id: string; epoch: number }[]
  stop(reason: 'lost' | 'no_beat', claim?: { id: string; epoch: number }): void
  readonly size: number
}

export type Heartbeat = {
  lastBeatMs(): number
  /** Resolves when the last beat is young enough for something to be begun, or when the beating is stopped. */
  whenFit(): Promise<void>
  stop(): Promise<void>
}

/**
 * Beats every two seconds and stops the calls whose claims Postgres says are gone.
 * @param describe this process as of now
 * @throws if the first beat fails: a process that is not in the table must not claim
 */
export async function startHeartbeat(options: {
  db: Db
  held: Claims
  describe: () => WorkerBeat | Promise<WorkerBeat>
  logger: Logger
}): Promise<Heartbeat> {
  const { db, held, describe, logger } = options
  let last = performance.now()
  let stopped = false

  async function once(): Promise<void> {
    const sent = performance.now()
    const lost = await withDeadline(
      Promise.resolve(describe()).then(worker => beat(db, worker, held.list())),
      BEAT_TIMEOUT_MS,
    )
    last = sent
    for (const claim of lost) held.stop('lost', claim)
  }

  let failing = false
  async function onceOrAgain(): Promise<boolean> {
    try {
      await once()
      failing = false
    } catch (error) {
      // One line an outage, not four a second.
      if (!failing) logger.warn({ err: error }, 'heartbeat failed')
      failing = true
      await new Promise(resolve => setTimeout(resolve, RETRY_MS))
    }
    return failing
  }

  await once()
  const stopBeating = every(BEAT_MS, onceOrAgain, error => logger.error({ err: error }, 'heartbeat broke'))
  // Apart from the beats: one that hangs must not keep the calls alive.
  let told = false
  const watchdog = setInterval(() => {
    if (performance.now() - last < ABORT_AFTER_MS) {
      told = false
      return
    }
    if (held.size === 0) return
    if (!told) logger.error({ claims: held.size }, 'no heartbeat for 8 s: stopping all calls')
    told = true
    held.stop('no_beat')
  }, 250)

  return {
    lastBeatMs: () => performance.now() - last,
    async whenFit() {
      while (!stopped && performance.now() - last > UNFIT_AFTER_MS) {
        await new Promise(resolve => setTimeout(resolve, LOOK_MS))
      }
    },
    async stop() {
      stopped = true
      clearInterval(watchdog)
      await stopBeating()
    },
  }
}

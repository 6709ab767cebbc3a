import type { Db } from './db/pool.ts'
import { beat, type WorkerBeat } from './db/workers.ts'
import { every } from './lifecycle.ts'
import type { Logger } from './logger.ts'

const BEAT_MS = 2000
/** How soon after one that failed: when Postgres returns, the next beat should come before the claims are given up. */
const RETRY_MS = 250
/** Without a beat for this long the claims will soon be taken over: calls stop before somebody repeats them. */
const ABORT_AFTER_MS = 8000

/** The claims of this process, and how to stop their calls. The API has none. */
export type Claims = {
  list(): { id: string; epoch: number }[]
  stop(reason: 'lost' | 'no_beat', id?: string): void
  readonly size: number
}

export const NO_CLAIMS: Claims = { list: () => [], stop: () => undefined, size: 0 }

export type Heartbeat = { lastBeatMs(): number; stop(): Promise<void> }

/**
 * Beats every two seconds and stops the calls whose claims Postgres says are gone.
 * @param describe this process as of now
 * @throws if the first beat fails: a process that is not in the table must neither claim nor dispatch
 */
export async function startHeartbeat(options: {
  db: Db
  held: Claims
  describe: () => WorkerBeat | Promise<WorkerBeat>
  logger: Logger
}): Promise<Heartbeat> {
  const { db, held, describe, logger } = options
  let last = performance.now()

  async function once(): Promise<void> {
    const sent = performance.now()
    const lost = await beat(db, await describe(), held.list())
    last = sent
    for (const id of lost) held.stop('lost', id)
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
  const watchdog = setInterval(() => {
    if (performance.now() - last < ABORT_AFTER_MS || held.size === 0) return
    logger.error({ claims: held.size }, 'no heartbeat for 8 s: stopping all calls')
    held.stop('no_beat')
  }, 250)

  return {
    lastBeatMs: () => performance.now() - last,
    async stop() {
      clearInterval(watchdog)
      await stopBeating()
    },
  }
}

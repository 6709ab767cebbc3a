import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'

const POLL_MS = 2000
/** A worker that takes no job for this time, while jobs wait and it has a free slot, is starved. Must be noticed within 30 s. */
export const STARVED_MS = 20_000

export type StarvationMonitor = {
  /** The queues whose jobs this process has stopped taking; empty: it is healthy. */
  starved(): string[]
  stop(): Promise<void>
}

/**
 * Watches whether this process takes the jobs that wait. Heartbeats are not enough: with a half-open connection or a fetch loop
 * that ended, a worker sends heartbeats and answers requests, but does no work.
 */
export function startStarvationMonitor(options: {
  idleMs: () => ReadonlyMap<string, number>
  /** Number of jobs of a queue that a worker could take now; rejects if the queue is unavailable. */
  waiting: (queue: string) => Promise<number>
  logger: Logger
  now?: () => number
}): StarvationMonitor & { poll(): Promise<void> } {
  const { idleMs, waiting, logger, now = () => performance.now() } = options
  /** By queue: the time since which jobs have waited at every poll. */
  const waitingSince = new Map<string, number>()
  let starving: string[] = []

  async function poll(): Promise<void> {
    const seen = await Promise.all(
      [...idleMs()].map(async ([queue, ms]) => {
        // While Redis is unavailable no worker takes jobs.
        const waits = ms >= POLL_MS && (await waiting(queue).catch(() => 0)) > 0
        if (!waits) waitingSince.delete(queue)
        else if (!waitingSince.has(queue)) waitingSince.set(queue, now())
        return waits && Math.min(ms, now() - waitingSince.get(queue)!) >= STARVED_MS ? [queue] : []
      }),
    )
    const found = seen.flat()
    if (found.length > 0 && starving.length === 0)
      logger.error({ queues: found }, 'the worker takes no jobs although jobs wait: it should be restarted')
    starving = found
  }

  const stop = repeatEvery(POLL_MS, poll, error => logger.error({ err: error }, 'the starvation monitor failed'))
  return { starved: () => starving, stop, poll }
}

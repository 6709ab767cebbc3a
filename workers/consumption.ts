import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'

const LOOK_MS = 2000
/** So long it may have a hand free and jobs before it without taking one; it is to be seen within 30 s. */
export const STARVED_MS = 20_000

export type Consumption = {
  /** The queues whose jobs this process has stopped taking, though it lives; empty: all is well. */
  starved(): string[]
  stop(): Promise<void>
}

/**
 * Watches whether this process takes what there is to take. Alive is not enough: a connection that is half open, or a fetch
 * loop that has ended, leaves a worker that beats and answers and does nothing.
 */
export function watchConsumption(options: {
  hungryMs: () => ReadonlyMap<string, number>
  /** Jobs of a queue that a worker could take now; rejects when the queue cannot be asked. */
  waiting: (queue: string) => Promise<number>
  logger: Logger
  now?: () => number
}): Consumption & { look(): Promise<void> } {
  const { hungryMs, waiting, logger, now = () => performance.now() } = options
  /** Since when there has been something to take at every look. */
  const full = new Map<string, number>()
  let starving: string[] = []

  async function look(): Promise<void> {
    const seen = await Promise.all(
      [...hungryMs()].map(async ([queue, ms]) => {
        // Without Redis nobody takes anything, which is nobody's fault here.
        const there = ms >= LOOK_MS && (await waiting(queue).catch(() => 0)) > 0
        if (!there) full.delete(queue)
        else if (!full.has(queue)) full.set(queue, now())
        return there && Math.min(ms, now() - full.get(queue)!) >= STARVED_MS ? [queue] : []
      }),
    )
    const found = seen.flat()
    if (found.length > 0 && starving.length === 0)
      logger.error({ queues: found }, 'takes no jobs though there are some: to be replaced')
    starving = found
  }

  const stop = every(LOOK_MS, look, error => logger.error({ err: error }, 'the watch over consumption broke'))
  return { starved: () => starving, stop, look }
}

import { setTimeout as delay } from 'node:timers/promises'
import type { FastifyBaseLogger } from 'fastify'
import type { Metrics } from './metrics.ts'
import type { Moderation } from './moderation.ts'
import type { Held, Store } from './store.ts'

const EVERY_MS = 2000
/** Bounds what a round asks of Sluice, whatever has piled up. */
const A_ROUND = 20

export type SettlingDeps = { store: Store; moderation: Moderation; metrics: Metrics; log: FastifyBaseLogger }

/**
 * Looks after held comments, one round at a time: shows or drops those that a model or a person has decided on, and asks
 * about those that Sluice has not heard of.
 * @returns a function that stops it and waits for the round under way
 */
export function startSettling({ store, moderation, metrics, log }: SettlingDeps): () => Promise<void> {
  const stop = new AbortController()

  async function settle(held: Held): Promise<void> {
    const outcome = await moderation.look(held)
    const news = outcome.status !== 'held' || outcome.taskId !== held.taskId || (outcome.verdict && !held.hasVerdict)
    if (!news) return
    const settled = await store.settle(held.id, outcome)
    if (settled && outcome.status !== 'held') metrics.comments.inc({ status: outcome.status })
  }

  async function run(): Promise<void> {
    while (!stop.signal.aborted) {
      try {
        await Promise.all((await store.takeHeld(A_ROUND)).map(settle))
      } catch (error) {
        log.warn({ err: error }, 'cannot look after held comments')
      }
      await delay(EVERY_MS, undefined, { signal: stop.signal }).catch(() => {})
    }
  }

  const running = run()
  return () => {
    stop.abort()
    return running
  }
}

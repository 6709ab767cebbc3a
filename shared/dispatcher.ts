import { setTimeout as sleep } from 'node:timers/promises'
import { type Occupied, readOccupied, takeBacklog } from './db/dispatches.ts'
import { LOCKS } from './db/locks.ts'
import type { Db } from './db/pool.ts'
import { every } from './lifecycle.ts'
import type { Logger } from './logger.ts'
import type { Metrics } from './metrics.ts'
import type { Producer } from './queue/producer.ts'
import { depthFor, inTurns, MOST, MOST_DELAYED, rooms } from './queue/shares.ts'

const ROUND_MS = 100
/** After a round that found the queue of a flow empty. */
const HUNGRY_MS = 10
/** How soon another process takes this work over when the one that does it is gone. */
const TRY_MS = 1000
/** So long one process keeps the lock; Postgres takes it from a holder that is silent for 10 s. */
const TURN_MS = 5000

export type DispatcherDeps = {
  db: Db
  producer: Pick<Producer, 'dispatch' | 'ready'>
  metrics: Metrics
  logger: Logger
}

/**
 * Starts what every API and worker process runs, and one of them at a time does: it moves tasks from the backlogs of their
 * keys into the queue as the queue empties, in turns. @returns how to stop it
 */
export function startDispatcher(deps: DispatcherDeps): () => Promise<void> {
  const stopping = new AbortController()
  const dispatcher = createDispatcher(deps)
  const stop = every(
    TRY_MS,
    () =>
      deps.db.withLock(LOCKS.dispatch, async () => {
        const until = performance.now() + TURN_MS
        while (performance.now() < until && !stopping.signal.aborted) {
          // Another process may reach Redis.
          if (!deps.producer.ready()) return false
          const pause = (await dispatcher.round()) === 'hungry' ? HUNGRY_MS : ROUND_MS
          await sleep(pause, undefined, { signal: stopping.signal }).catch(() => undefined)
        }
        return true
      }),
    error => deps.logger.warn({ err: error }, 'dispatcher: postgres is away'),
  )
  return () => {
    stopping.abort()
    return stop()
  }
}

/** One round after the other; remembers between them how fast the queue empties. */
export function createDispatcher({ db, producer, metrics, logger }: DispatcherDeps) {
  /** Of each flow, what waited when the last round was over. */
  let left = new Map<string, number>()
  let at = performance.now()

  return {
    /** `hungry`: a flow with a backlog had nothing left in the queue. */
    async round(): Promise<'hungry' | 'fed' | 'idle'> {
      // What is taken now would only be found missing later.
      if (!producer.ready()) return 'idle'
      const flows = await readOccupied(db, MOST + MOST_DELAYED)
      const seconds = Math.max(0.001, (performance.now() - at) / 1000)
      at = performance.now()
      if (flows.length === 0) {
        left = new Map()
        return 'idle'
      }
      const consumed = flows.reduce((sum, flow) => sum + Math.max(0, (left.get(keyOf(flow)) ?? 0) - flow.waiting), 0)
      const room = rooms(flows, depthFor(consumed, seconds))
      left = new Map(flows.map(flow => [keyOf(flow), flow.waiting]))

      const wanted = flows.flatMap(({ api_key_id, priority }, index) =>
        room[index]! > 0 ? [{ apiKeyId: api_key_id, priority, room: room[index]! }] : [],
      )
      if (wanted.length > 0) {
        const taken = await takeBacklog(db, wanted)
        for (const task of taken) left.set(keyOf(task), left.get(keyOf(task))! + 1)
        // Ids are in time order.
        taken.sort((a, b) => (a.id < b.id ? -1 : 1))
        const turns = inTurns([...Map.groupBy(taken, keyOf).values()])
        const outcomes = await Promise.allSettled(turns.map(task => producer.dispatch(task)))
        const failed = outcomes.find(one => one.status === 'rejected')
        if (failed) logger.debug({ err: failed.reason }, 'not dispatched: the sweeper will')
        metrics.dispatchedLater.inc(taken.length)
        if (taken.length > 0 && flows.some(flow => flow.waiting === 0)) return 'hungry'
      }
      return 'fed'
    },
  }
}

const keyOf = (flow: Pick<Occupied, 'api_key_id' | 'priority'>) => `${flow.api_key_id} ${flow.priority}`

import { setTimeout as sleep } from 'node:timers/promises'
import { type FlowOccupancy, readOccupancy, takeBacklog } from '#shared/db/dispatches.ts'
import { LOCKS } from '#shared/db/locks.ts'
import { type Db, isUnavailable } from '#shared/db/pool.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { createOutageLog } from '#shared/process/outage-log.ts'
import type { Producer } from '#shared/queue/producer.ts'
import { depthFor, fairShares, inTurns, MAX, MAX_DELAYED } from '#shared/queue/shares.ts'

const ROUND_MS = 100
/** After a round that found the queue of a flow empty. */
const HUNGRY_MS = 10
/** How soon another process takes over after the dispatching process has died. */
const TRY_MS = 1000
/** How long one process keeps the lock. Postgres releases the lock of a connection that is silent for 10 s. */
const TURN_MS = 5000

export type DispatcherDeps = {
  db: Db
  producer: Pick<Producer, 'dispatch' | 'ready'>
  metrics: Metrics
  logger: Logger
}

/**
 * Starts the dispatcher. Every API and worker process runs it, and one of them at a time works: it moves tasks from the
 * backlogs of their keys into the queue as the queue empties, in turns. @returns a function that stops it
 */
export function startDispatcher(deps: DispatcherDeps): () => Promise<void> {
  const stopping = new AbortController()
  const dispatcher = createDispatcher(deps)
  const outage = createOutageLog(deps.logger, {
    failure: 'dispatcher: postgres is unavailable',
    recovery: 'dispatcher: postgres is available again',
    unexpected: 'dispatcher: a turn failed',
    isOutage: isUnavailable,
  })
  const turn = async () => {
    const again = await deps.db.withLock(LOCKS.dispatch, async () => {
      const until = performance.now() + TURN_MS
      while (performance.now() < until && !stopping.signal.aborted) {
        // Another process may reach Redis.
        if (!deps.producer.ready()) return false
        const pause = (await dispatcher.round()) === 'hungry' ? HUNGRY_MS : ROUND_MS
        await sleep(pause, undefined, { signal: stopping.signal }).catch(() => undefined)
      }
      return true
    })
    outage.succeeded()
    return again
  }
  const stop = repeatEvery(TRY_MS, turn, outage.failed)
  return () => {
    stopping.abort()
    return stop()
  }
}

/** Between rounds it remembers how fast the queue empties. */
export function createDispatcher({ db, producer, metrics, logger }: DispatcherDeps) {
  /** For each flow, the tasks that waited after the last round. */
  let left = new Map<string, number>()
  let at = performance.now()

  return {
    /** `hungry`: a flow with a backlog had nothing left in the queue. */
    async round(): Promise<'hungry' | 'fed' | 'idle'> {
      // Tasks taken now could not be added to the queue.
      if (!producer.ready()) return 'idle'
      const flows = await readOccupancy(db, MAX + MAX_DELAYED)
      const seconds = Math.max(0.001, (performance.now() - at) / 1000)
      at = performance.now()
      if (flows.length === 0) {
        left = new Map()
        return 'idle'
      }
      const consumed = flows.reduce((sum, flow) => sum + Math.max(0, (left.get(keyOf(flow)) ?? 0) - flow.waiting), 0)
      const room = fairShares(flows, depthFor(consumed, seconds))
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
        if (failed) logger.debug({ err: failed.reason }, 'not dispatched: the sweeper will retry')
        metrics.dispatchedLater.inc(taken.length)
        if (taken.length > 0 && flows.some(flow => flow.waiting === 0)) return 'hungry'
      }
      return 'fed'
    },
  }
}

const keyOf = (flow: Pick<FlowOccupancy, 'api_key_id' | 'priority'>) => `${flow.api_key_id} ${flow.priority}`

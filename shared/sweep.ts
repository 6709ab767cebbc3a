import { closeOrphanedAttempts, takeOverDeadClaims } from './db/claims.ts'
import { forgetDispatches, takeUndispatched, timeAgo } from './db/dispatches.ts'
import { forgetExpiredKeys } from './db/insert.ts'
import { type Db, isUnavailable } from './db/pool.ts'
import { type Ender, type Ending, findOverdue } from './db/tasks.ts'
import { DEAD_AFTER_SECONDS, findDead, leave } from './db/workers.ts'
import { every } from './lifecycle.ts'
import type { Logger } from './logger.ts'
import type { Metrics } from './metrics.ts'
import { type Producer, QueueUnavailable } from './queue/producer.ts'

const ROUND_MS = 1000
const ROWS = 500
const FORGET_SLICE = 5000
/** A task that was claimed this often without a settlement kills its workers. */
const MAX_CLAIMS = 5
/** Dispatches this old are made again even if nothing points to a loss. */
const REDISPATCH_SECONDS = 900
const HOUSEKEEPING_MS = 60_000
/** Any constant: whoever holds it sweeps. */
const SWEEP_LOCK = 7_205_418_367

export type SweeperDeps = {
  db: Db
  end: Ender
  producer: Pick<Producer, 'dispatch' | 'wasLost' | 'remember'>
  metrics: Metrics
  logger: Logger
}

/** Starts the timer that every API and worker process runs. @returns how to stop it */
export function startSweeper(deps: SweeperDeps): () => Promise<void> {
  const { db, logger } = deps
  let lastOutage = Number.NEGATIVE_INFINITY
  let lastHousekeeping = Number.NEGATIVE_INFINITY

  const stepFailed = (step: string, error: unknown) => {
    if (isUnavailable(error)) throw error
    logger.error({ err: error, step }, 'a step of the sweep failed')
    return false
  }

  async function round(): Promise<boolean> {
    const full = await db.withLock(SWEEP_LOCK, async () => {
      // The beats that an outage prevented prove nobody dead; this process saw the outage even if Postgres's own start
      // time does not show it.
      const settled = performance.now() - lastOutage > DEAD_AFTER_SECONDS * 1000
      const steps: [string, () => Promise<boolean>][] = [
        ['expire', () => expire(deps)],
        ['take over', () => (settled ? takeOver(deps) : Promise.resolve(false))],
        ['bury', () => (settled ? bury(deps) : Promise.resolve(false))],
        ['dispatch', () => dispatch(deps)],
      ]
      if (performance.now() - lastHousekeeping > HOUSEKEEPING_MS) {
        lastHousekeeping = performance.now()
        steps.push(['housekeeping', () => housekeeping(deps)])
      }
      let full = false
      for (const [name, step] of steps) full = (await step().catch(error => stepFailed(name, error))) || full
      return full
    })
    return full === true
  }

  return every(ROUND_MS, round, error => {
    lastOutage = performance.now()
    logger.warn({ err: error }, 'sweep: postgres is away')
  })
}

const ending = (
  id: string,
  from: Ending['from'],
  status: 'expired' | 'failed',
  code: string,
  message: string,
): Ending => ({
  id,
  from,
  status,
  epoch: null,
  workerId: null,
  settlement: null,
  error: { code, message },
})

async function expire({ db, end, metrics }: SweeperDeps): Promise<boolean> {
  const overdue = await findOverdue(db, ROWS)
  const ended = await Promise.all(
    overdue.map(id =>
      end(ending(id, 'live', 'expired', 'deadline_exceeded', 'The deadline passed before there was an answer.')),
    ),
  )
  metrics.swept.inc({ what: 'expired' }, ended.filter(one => one.ended).length)
  return overdue.length === ROWS
}

async function takeOver({ db, end, metrics, logger }: SweeperDeps): Promise<boolean> {
  const { taken, hopeless } = await takeOverDeadClaims(db, ROWS, MAX_CLAIMS)
  await Promise.all(
    hopeless.map(id =>
      end(ending(id, 'running', 'failed', 'worker_lost', `Its workers died ${MAX_CLAIMS} times without an answer.`)),
    ),
  )
  const orphaned = await closeOrphanedAttempts(db, ROWS)
  metrics.swept.inc({ what: 'taken_over' }, taken)
  metrics.swept.inc({ what: 'hopeless' }, hopeless.length)
  metrics.swept.inc({ what: 'orphaned_attempts' }, orphaned)
  if (taken + hopeless.length > 0) logger.warn({ taken, hopeless: hopeless.length }, 'took over claims of dead workers')
  return taken + hopeless.length === ROWS || orphaned === ROWS
}

/**
 * What a dead process said it dispatched around its last beat may never have reached the queue. Dispatches take
 * milliseconds and give up after seconds, so that this covers all that were on their way.
 */
async function bury({ db, metrics, logger }: SweeperDeps): Promise<boolean> {
  const dead = await findDead(db, ROWS)
  for (const { id, beat_at } of dead) {
    const around = (seconds: number) => new Date(beat_at.getTime() + seconds * 1000)
    const forgotten = await forgetAll(db, around(-DEAD_AFTER_SECONDS), around(DEAD_AFTER_SECONDS))
    metrics.swept.inc({ what: 'redispatched' }, forgotten)
    await leave(db, id, beat_at)
    logger.warn({ process: id, redispatched: forgotten }, 'a process died')
  }
  return dead.length === ROWS
}

async function forgetAll(db: Db, from: Date, to: Date): Promise<number> {
  let forgotten = 0
  for (let count = FORGET_SLICE; count === FORGET_SLICE; forgotten += count)
    count = await forgetDispatches(db, from, to, FORGET_SLICE)
  return forgotten
}

const LONG_AGO = new Date(0)
const FAR_AHEAD = new Date('9999-01-01')

/** Needs Redis; everything else in the sweep does not. */
async function dispatch({ db, producer, metrics, logger }: SweeperDeps): Promise<boolean> {
  try {
    if (await producer.wasLost()) {
      const forgotten = await forgetAll(db, LONG_AGO, FAR_AHEAD)
      await producer.remember()
      if (forgotten > 0) logger.warn({ forgotten }, 'redis was restarted or flushed: dispatching again')
    }
    const due = await takeUndispatched(db, ROWS)
    const outcomes = await Promise.allSettled(due.map(task => producer.dispatch(task)))
    const dispatched = outcomes.filter(one => one.status === 'fulfilled').length
    metrics.swept.inc({ what: 'dispatched' }, dispatched)
    return dispatched === ROWS
  } catch (error) {
    if (!(error instanceof QueueUnavailable)) throw error
    // shared/redis.ts has logged that Redis is away.
    logger.debug({ err: error }, 'sweep: nothing dispatched')
    return false
  }
}

async function housekeeping({ db, metrics }: SweeperDeps): Promise<boolean> {
  const old = await timeAgo(db, REDISPATCH_SECONDS)
  metrics.swept.inc({ what: 'redispatched' }, await forgetDispatches(db, LONG_AGO, old, ROWS))
  await forgetExpiredKeys(db)
  return false
}

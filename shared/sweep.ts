import { setTimeout as sleep } from 'node:timers/promises'
import { forgetWindows, openWindows } from './db/budgets.ts'
import { closeOrphanedAttempts, takeOverDeadClaims } from './db/claims.ts'
import { listDispatched, type Position } from './db/dispatches.ts'
import { forgetGates } from './db/gates.ts'
import { forgetExpiredKeys } from './db/insert.ts'
import { LOCKS } from './db/locks.ts'
import { isUnavailable } from './db/pool.ts'
import { type Ending, findOverdue, releaseStrayFollowers } from './db/tasks.ts'
import { forgetDeliveries } from './db/webhooks.ts'
import { buryDead, DEAD_AFTER_SECONDS } from './db/workers.ts'
import { every } from './lifecycle.ts'
import { QueueUnavailable } from './queue/producer.ts'
import {
  advanceBatches,
  forgetResults,
  redispatchChunks,
  type SweeperDeps,
  stopBatches,
  takeOverChunks,
} from './sweep-batches.ts'

const ROUND_MS = 1000
/** So long one process keeps the lock: else each of the fleet would do a round a second, one after the other. */
const TURN_MS = 5000
const ROWS = 500
/** Dispatched rows that are looked for in the queue in one round. */
const WALK = 2000
/** A task that was claimed this often without a settlement kills its workers. */
const MAX_CLAIMS = 5
const HOUSEKEEPING_MS = 60_000
/** How long what was sent to webhooks can be looked up, and sent again. */
const WEBHOOK_LOG_DAYS = 7
/** Slices of it that are dropped at a time. */
const WEBHOOK_SLICES = 20
/** Slices of Idempotency-Keys that are no longer remembered, at a time. */
const KEY_SLICES = 20

/** Starts the timer that every API and worker process runs. @returns how to stop it */
export function startSweeper(deps: SweeperDeps): () => Promise<void> {
  const { db, logger } = deps
  let lastOutage = Number.NEGATIVE_INFINITY
  let lastHousekeeping = Number.NEGATIVE_INFINITY
  const stopping = new AbortController()
  const redispatch = createRedispatch(deps)

  const stepFailed = (step: string, error: unknown) => {
    if (isUnavailable(error)) throw error
    logger.error({ err: error, step }, 'a step of the sweep failed')
    return false
  }

  /** @returns whether there is more to do than one round does */
  async function round(): Promise<boolean> {
    // The beats that an outage prevented prove nobody dead; this process saw the outage even if Postgres's own start
    // time does not show it.
    const settled = performance.now() - lastOutage > DEAD_AFTER_SECONDS * 1000
    const steps: [string, () => Promise<boolean>][] = [
      ['expire', () => expire(deps)],
      ['take over', () => (settled ? takeOver(deps) : Promise.resolve(false))],
      ['take over chunks', () => (settled ? takeOverChunks(deps) : Promise.resolve(false))],
      ['bury', () => (settled ? bury(deps) : Promise.resolve(false))],
      ['followers', () => releaseFollowers(deps)],
      ['redispatch', redispatch],
      ['stop batches', () => stopBatches(deps)],
      ['advance batches', () => advanceBatches(deps)],
      ['redispatch chunks', () => redispatchChunks(deps)],
      ['forget', () => forgetResults(deps)],
    ]
    if (performance.now() - lastHousekeeping > HOUSEKEEPING_MS) {
      lastHousekeeping = performance.now()
      steps.push(['housekeeping', () => housekeeping(deps)])
    }
    let full = false
    for (const [name, step] of steps) full = (await step().catch(error => stepFailed(name, error))) || full
    return full
  }

  const turn = () =>
    db.withLock(LOCKS.sweep, async () => {
      const until = performance.now() + TURN_MS
      while (performance.now() < until && !stopping.signal.aborted) {
        const full = await round()
        // Another process may reach Redis, and dispatch.
        if (!deps.producer.ready()) return false
        if (!full) await sleep(ROUND_MS, undefined, { signal: stopping.signal }).catch(() => undefined)
      }
      return true
    })
  const stop = every(ROUND_MS, turn, error => {
    lastOutage = performance.now()
    logger.warn({ err: error }, 'sweep: postgres is away')
  })
  // By itself, as it may have to wait for S3, and no task must.
  const sweepFiles = () => db.withLock(LOCKS.files, () => deps.files.sweep())
  const stopFiles = every(HOUSEKEEPING_MS, sweepFiles, error => logger.warn({ err: error }, 'files are not swept'))
  return async () => {
    stopping.abort()
    await Promise.all([stop(), stopFiles()])
  }
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

async function releaseFollowers({ db, metrics }: SweeperDeps): Promise<boolean> {
  const released = await releaseStrayFollowers(db, ROWS)
  metrics.swept.inc({ what: 'followers' }, released)
  return released === ROWS
}

async function bury({ db, logger }: SweeperDeps): Promise<boolean> {
  for (const id of await buryDead(db)) logger.warn({ worker_id: id }, 'a worker died')
  return false
}

/** Goes through what is dispatched, a slice a round, and dispatches again what the queue has not. Needs Redis. */
function createRedispatch({ db, producer, metrics, logger }: SweeperDeps) {
  let position: Position | null = null
  return async (): Promise<boolean> => {
    if (!producer.ready()) return false
    const rows = await listDispatched(db, position, WALK)
    try {
      const missing = await producer.missing(rows)
      await Promise.all(missing.map(task => producer.dispatch(task)))
      position = rows.length === WALK ? rows.at(-1)! : null
      if (missing.length === 0) return false
      metrics.swept.inc({ what: 'redispatched' }, missing.length)
      logger.warn({ tasks: missing.length }, 'dispatched again: the queue had lost them or never had them')
      return true
    } catch (error) {
      if (!(error instanceof QueueUnavailable)) throw error
      // shared/redis.ts has logged that Redis is away.
      logger.debug({ err: error }, 'sweep: the queue was not asked')
      return false
    }
  }
}

async function housekeeping({ db }: SweeperDeps): Promise<boolean> {
  for (let n = 0; n < KEY_SLICES && (await forgetExpiredKeys(db)); n++);
  await openWindows(db)
  await forgetWindows(db)
  await forgetGates(db)
  for (let n = 0; n < WEBHOOK_SLICES && (await forgetDeliveries(db, WEBHOOK_LOG_DAYS)) > 0; n++);
  return false
}

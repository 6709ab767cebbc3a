import { setTimeout as sleep } from 'node:timers/promises'
import { openBudgetWindows, pruneBudgetWindows } from '#shared/db/budgets.ts'
import { closeOrphanedAttempts, takeOverDeadClaims } from '#shared/db/claims/take-over.ts'
import { type DispatchCursor, listDispatched } from '#shared/db/dispatches.ts'
import { pruneGates } from '#shared/db/gates.ts'
import { pruneIdempotencyKeys } from '#shared/db/idempotency.ts'
import { pruneKeySecrets } from '#shared/db/keys.ts'
import { LOCKS } from '#shared/db/locks.ts'
import { isUnavailable } from '#shared/db/pool.ts'
import type { TaskOutcome } from '#shared/db/tasks/finish.ts'
import { findOverdue } from '#shared/db/tasks/overdue.ts'
import { releaseStrayFollowers } from '#shared/db/tasks/release.ts'
import { pruneDeliveries } from '#shared/db/webhooks/log.ts'
import { pruneWebhookSecrets } from '#shared/db/webhooks/secrets.ts'
import { deleteDeadWorkers } from '#shared/db/workers.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import { createOutageLog } from '#shared/process/outage-log.ts'
import { QueueUnavailable } from '#shared/queue/producer.ts'
import {
  advanceBatches,
  forgetResults,
  redispatchChunks,
  type SweeperDeps,
  stopBatches,
  takeOverChunks,
} from './sweep-batches.ts'

const ROUND_MS = 1000
/** How long one process keeps the lock. Without it, every process would sweep once a second, one after the other. */
const TURN_MS = 5000
const ROWS = 500
/** Dispatched rows that one round compares with the queue. */
const WALK = 2000
/** A task that was claimed this often without a settlement keeps killing its workers. */
const MAX_CLAIMS = 5
const HOUSEKEEPING_MS = 60_000
/** How long webhook deliveries can be read and sent again. */
const WEBHOOK_LOG_DAYS = 7
/** Slices of that log that one round deletes. */
const WEBHOOK_SLICES = 20
/** Slices of expired Idempotency-Keys that one round deletes. */
const KEY_SLICES = 20

/** Starts the sweeper. Every API and worker process runs it; one at a time works. @returns a function that stops it */
export function startSweeper(deps: SweeperDeps): () => Promise<void> {
  const { db, liveness, logger } = deps
  let lastOutage = Number.NEGATIVE_INFINITY
  let lastHousekeeping = Number.NEGATIVE_INFINITY
  const stopping = new AbortController()
  const redispatch = createRedispatch(deps)

  const stepFailed = (step: string, error: unknown) => {
    if (isUnavailable(error)) throw error
    logger.error({ err: error, step }, 'a step of the sweep failed')
    return false
  }

  /** @returns whether there is more to do than fits one round */
  async function round(): Promise<boolean> {
    // Heartbeats that an outage prevented do not prove a death. This process has seen the outage even if Postgres's start
    // time does not show it.
    const settled = performance.now() - lastOutage > liveness.deadAfterMs
    const steps: [string, () => Promise<boolean>][] = [
      ['expire', () => expire(deps)],
      ['take over', () => (settled ? takeOver(deps) : Promise.resolve(false))],
      ['take over chunks', () => (settled ? takeOverChunks(deps) : Promise.resolve(false))],
      ['bury', () => (settled ? deleteDead(deps) : Promise.resolve(false))],
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

  const outage = createOutageLog(logger, {
    failure: 'sweeper: postgres is unavailable',
    recovery: 'sweeper: postgres is available again',
    unexpected: 'sweeper: a turn failed',
    isOutage: isUnavailable,
  })
  const turn = async () => {
    const again = await db.withLock(LOCKS.sweep, async () => {
      const until = performance.now() + TURN_MS
      while (performance.now() < until && !stopping.signal.aborted) {
        const full = await round()
        // Another process may reach Redis.
        if (!deps.producer.ready()) return false
        if (!full) await sleep(ROUND_MS, undefined, { signal: stopping.signal }).catch(() => undefined)
      }
      return true
    })
    outage.succeeded()
    return again
  }
  const stop = repeatEvery(ROUND_MS, turn, error => {
    lastOutage = performance.now()
    outage.failed(error)
  })
  // On its own: it may wait for S3, and tasks must not.
  const sweepFiles = () => db.withLock(LOCKS.files, () => deps.files.sweep())
  const stopFiles = repeatEvery(HOUSEKEEPING_MS, sweepFiles, error => {
    // The sweeper logs an outage of Postgres.
    if (isUnavailable(error)) logger.debug({ err: error }, 'files were not swept')
    else logger.warn({ err: error }, 'files were not swept')
  })
  return async () => {
    stopping.abort()
    await Promise.all([stop(), stopFiles()])
  }
}

const ending = (
  id: string,
  from: TaskOutcome['from'],
  status: 'expired' | 'failed',
  code: string,
  message: string,
): TaskOutcome => ({
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

async function takeOver({ db, end, liveness, metrics, logger }: SweeperDeps): Promise<boolean> {
  const { taken, exhausted } = await takeOverDeadClaims(db, ROWS, MAX_CLAIMS, liveness.deadAfterMs)
  await Promise.all(
    exhausted.map(id =>
      end(ending(id, 'running', 'failed', 'worker_lost', `Its workers died ${MAX_CLAIMS} times without an answer.`)),
    ),
  )
  const orphaned = await closeOrphanedAttempts(db, ROWS, liveness.deadAfterMs)
  metrics.swept.inc({ what: 'taken_over' }, taken)
  metrics.swept.inc({ what: 'hopeless' }, exhausted.length)
  metrics.swept.inc({ what: 'orphaned_attempts' }, orphaned)
  if (taken + exhausted.length > 0)
    logger.warn({ taken, exhausted: exhausted.length }, 'took over claims of dead workers')
  return taken + exhausted.length === ROWS || orphaned === ROWS
}

async function releaseFollowers({ db, metrics }: SweeperDeps): Promise<boolean> {
  const released = await releaseStrayFollowers(db, ROWS)
  metrics.swept.inc({ what: 'followers' }, released)
  return released === ROWS
}

async function deleteDead({ db, liveness, logger }: SweeperDeps): Promise<boolean> {
  for (const id of await deleteDeadWorkers(db, liveness.deadAfterMs)) logger.warn({ worker_id: id }, 'a worker died')
  return false
}

/** Compares the dispatched tasks with the queue, a slice per round, and dispatches lost ones again. Needs Redis. */
function createRedispatch({ db, producer, metrics, logger }: SweeperDeps) {
  let position: DispatchCursor | null = null
  return async (): Promise<boolean> => {
    if (!producer.ready()) return false
    const rows = await listDispatched(db, position, WALK)
    try {
      const missing = await producer.missing(rows)
      await Promise.all(missing.map(task => producer.dispatch(task)))
      position = rows.length === WALK ? rows.at(-1)! : null
      if (missing.length === 0) return false
      metrics.swept.inc({ what: 'redispatched' }, missing.length)
      logger.warn({ tasks: missing.length }, 'dispatched again: the queue did not have them')
      return true
    } catch (error) {
      if (!(error instanceof QueueUnavailable)) throw error
      // shared/redis/connect.ts has logged the outage.
      logger.debug({ err: error }, 'sweep: the queue is unavailable')
      return false
    }
  }
}

async function housekeeping({ db }: SweeperDeps): Promise<boolean> {
  for (let n = 0; n < KEY_SLICES && (await pruneIdempotencyKeys(db)); n++);
  await openBudgetWindows(db)
  await pruneBudgetWindows(db)
  await pruneGates(db)
  for (let n = 0; n < WEBHOOK_SLICES && (await pruneDeliveries(db, WEBHOOK_LOG_DAYS)) > 0; n++);
  await pruneKeySecrets(db)
  await pruneWebhookSecrets(db)
  return false
}

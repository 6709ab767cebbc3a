import { failChunk, finishLines, MAX_CHUNK_CLAIMS } from '#shared/batches/fail-chunk.ts'
import type { ChunkJob } from '#shared/db/batches/chunk.ts'
import { dispatchNextChunks, listDispatchedChunks, listStoppedChunks } from '#shared/db/batches/dispatch-chunks.ts'
import { finalizeReady } from '#shared/db/batches/finalize.ts'
import { finishChunk } from '#shared/db/batches/finish-chunk.ts'
import { pruneBatches } from '#shared/db/batches/prune.ts'
import { listOpenLines } from '#shared/db/batches/read-lines.ts'
import { takeOverDeadChunks } from '#shared/db/batches/take-over-chunks.ts'
import type { Db } from '#shared/db/pool.ts'
import type { FinishTask } from '#shared/db/tasks/finish.ts'
import { pruneTasks } from '#shared/db/tasks/prune.ts'
import type { FileStore } from '#shared/files/store.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { Liveness } from '#shared/process/liveness.ts'
import type { Logger } from '#shared/process/logger.ts'
import { type Producer, QueueUnavailable } from '#shared/queue/producer.ts'

export type SweeperDeps = {
  db: Db
  end: FinishTask
  producer: Pick<Producer, 'dispatch' | 'ready' | 'missing'>
  files: Pick<FileStore, 'sweep'>
  liveness: Pick<Liveness, 'deadAfterMs'>
  metrics: Metrics
  logger: Logger
  /** 0: unlimited. */
  resultRetentionDays: number
}

const CHUNKS = 100
/** Chunks whose lines are ended in one round: a few thousand lines. */
const STOPPED = 10
const FORGOTTEN = 1000

const WHY = {
  cancelled: { code: 'cancelled', message: 'The batch was cancelled.' },
  expired: { code: 'deadline_exceeded', message: 'The batch expired before there was an answer.' },
}

const dispatchAll = ({ producer, logger }: SweeperDeps, jobs: ChunkJob[]) =>
  Promise.all(
    jobs.map(job =>
      producer.dispatch(job).catch(error => logger.debug({ err: error }, 'sweep: a chunk was not dispatched')),
    ),
  )

/** Runs the chunks of dead workers again. Fails the lines of a chunk that keeps killing its workers. */
export async function takeOverChunks(deps: SweeperDeps): Promise<boolean> {
  const { db, liveness, metrics, logger } = deps
  const { taken, exhausted } = await takeOverDeadChunks(db, CHUNKS, MAX_CHUNK_CLAIMS, liveness.deadAfterMs)
  await dispatchAll(deps, taken)
  for (const chunk of exhausted) await failChunk(deps, chunk)
  metrics.swept.inc({ what: 'chunks' }, taken.length)
  metrics.swept.inc({ what: 'hopeless_chunks' }, exhausted.length)
  if (taken.length + exhausted.length > 0)
    logger.warn({ taken: taken.length, exhausted: exhausted.length }, 'took over chunks of dead workers')
  return taken.length + exhausted.length === CHUNKS
}

/** Ends the lines of cancelled and expired batches, chunk by chunk, except the running ones. */
export async function stopBatches({ db, end, metrics }: SweeperDeps): Promise<boolean> {
  const chunks = await listStoppedChunks(db, STOPPED)
  let finished = 0
  for (const chunk of chunks) {
    // A running line ends or is taken over later, and finishes the chunk then.
    const lines = (await listOpenLines(db, chunk, null)).filter(line => !line.running)
    await finishLines(end, lines, chunk.ending, WHY[chunk.ending], 'queued')
    const counts = await finishChunk(db, { ...chunk, workerId: null })
    if (counts?.open !== 0) continue
    finished++
    metrics.batchLines.inc({ status: 'cancelled' }, counts.cancelled)
    metrics.batchLines.inc({ status: 'expired' }, counts.expired)
  }
  metrics.swept.inc({ what: 'stopped_chunks' }, finished)
  return finished === STOPPED
}

/** Finishes batches whose lines have all ended, and dispatches the next chunks of the others. */
export async function advanceBatches(deps: SweeperDeps): Promise<boolean> {
  await dispatchAll(deps, await finalizeReady(deps.db, null))
  // Chunks taken now could not be added to the queue.
  if (deps.producer.ready()) await dispatchAll(deps, await dispatchNextChunks(deps.db, null, deps.liveness.deadAfterMs))
  return false
}

/** Dispatches again the chunks that the queue has lost. Needs Redis. */
export async function redispatchChunks(deps: SweeperDeps): Promise<boolean> {
  const { db, producer, metrics, logger } = deps
  if (!producer.ready()) return false
  const jobs = await listDispatchedChunks(db)
  if (jobs.length === 0) return false
  try {
    const missing = await producer.missing(jobs)
    await Promise.all(missing.map(job => producer.dispatch(job)))
    metrics.swept.inc({ what: 'redispatched_chunks' }, missing.length)
    if (missing.length > 0) logger.warn({ chunks: missing.length }, 'dispatched again: the queue had lost chunks')
  } catch (error) {
    if (!(error instanceof QueueUnavailable)) throw error
    logger.debug({ err: error }, 'sweep: the queue is unavailable')
  }
  return false
}

/** Deletes tasks and batches whose retention has ended. */
export async function forgetResults({ db, metrics, resultRetentionDays }: SweeperDeps): Promise<boolean> {
  if (resultRetentionDays === 0) return false
  const tasks = await pruneTasks(db, resultRetentionDays, FORGOTTEN)
  const batches = tasks === FORGOTTEN ? 0 : await pruneBatches(db, resultRetentionDays, FORGOTTEN)
  metrics.swept.inc({ what: 'forgotten' }, tasks)
  return tasks === FORGOTTEN || batches === FORGOTTEN
}

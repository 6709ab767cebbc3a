import { endLines, giveUpChunk, MAX_CHUNK_CLAIMS } from './batches/give-up.ts'
import { finalizeReady, forgetBatches } from './db/batches.ts'
import {
  type ChunkJob,
  finishChunk,
  listDispatchedChunks,
  listStoppedChunks,
  takeOverDeadChunks,
  topUp,
} from './db/chunks.ts'
import { forgetTasks, listOpenLines } from './db/lines.ts'
import type { Db } from './db/pool.ts'
import type { Ender } from './db/tasks.ts'
import type { FileStore } from './files/store.ts'
import type { Logger } from './logger.ts'
import type { Metrics } from './metrics.ts'
import { type Producer, QueueUnavailable } from './queue/producer.ts'

export type SweeperDeps = {
  db: Db
  end: Ender
  producer: Pick<Producer, 'dispatch' | 'ready' | 'missing'>
  files: Pick<FileStore, 'sweep'>
  metrics: Metrics
  logger: Logger
  /** 0: for ever. */
  resultRetentionDays: number
}

const CHUNKS = 100
/** Chunks whose lines are ended in one round: some thousand lines. */
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

/** Chunks of workers that died are done again; of those that kill their workers, the lines fail. */
export async function takeOverChunks(deps: SweeperDeps): Promise<boolean> {
  const { db, metrics, logger } = deps
  const { taken, hopeless } = await takeOverDeadChunks(db, CHUNKS, MAX_CHUNK_CLAIMS)
  await dispatchAll(deps, taken)
  for (const chunk of hopeless) await giveUpChunk(deps, chunk)
  metrics.swept.inc({ what: 'chunks' }, taken.length)
  metrics.swept.inc({ what: 'hopeless_chunks' }, hopeless.length)
  if (taken.length + hopeless.length > 0)
    logger.warn({ taken: taken.length, hopeless: hopeless.length }, 'took over chunks of dead workers')
  return taken.length + hopeless.length === CHUNKS
}

/** Ends the lines of batches that were cancelled or ran out of time, chunk by chunk, but for those that are being run. */
export async function stopBatches({ db, end, metrics }: SweeperDeps): Promise<boolean> {
  const chunks = await listStoppedChunks(db, STOPPED)
  let finished = 0
  for (const chunk of chunks) {
    // One that runs may end, or is taken over; its chunk is finished then.
    const lines = (await listOpenLines(db, chunk, null)).filter(line => !line.running)
    await endLines(end, lines, chunk.ending, WHY[chunk.ending], 'queued')
    const counts = await finishChunk(db, { ...chunk, workerId: null })
    if (counts?.open !== 0) continue
    finished++
    metrics.batchLines.inc({ status: 'cancelled' }, counts.cancelled)
    metrics.batchLines.inc({ status: 'expired' }, counts.expired)
  }
  metrics.swept.inc({ what: 'stopped_chunks' }, finished)
  return finished === STOPPED
}

/** Batches whose lines have all ended are finished, the others are given what they have room for. */
export async function advanceBatches(deps: SweeperDeps): Promise<boolean> {
  await dispatchAll(deps, await finalizeReady(deps.db, null))
  // What is taken now would only be found missing later.
  if (deps.producer.ready()) await dispatchAll(deps, await topUp(deps.db, null))
  return false
}

/** Dispatches again what the queue has not. Needs Redis. */
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
    logger.debug({ err: error }, 'sweep: the queue was not asked')
  }
  return false
}

/** Drops tasks and batches that are older than they are kept. */
export async function forgetResults({ db, metrics, resultRetentionDays }: SweeperDeps): Promise<boolean> {
  if (resultRetentionDays === 0) return false
  const before = firstIdAt(Date.now() - resultRetentionDays * 86_400_000)
  const tasks = await forgetTasks(db, before, FORGOTTEN)
  const batches = tasks === FORGOTTEN ? 0 : await forgetBatches(db, before, FORGOTTEN)
  metrics.swept.inc({ what: 'forgotten' }, tasks)
  return tasks === FORGOTTEN || batches === FORGOTTEN
}

/** The least UUIDv7 of a moment, milliseconds since 1970. */
export function firstIdAt(ms: number): string {
  const hex = Math.max(0, Math.floor(ms)).toString(16).padStart(12, '0')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7000-8000-000000000000`
}

import { type CheckDeps, checkInput } from '#shared/batches/check-input.ts'
import { giveUpChunk, MAX_CHUNK_CLAIMS } from '#shared/batches/give-up.ts'
import { type BatchProblem, endBatch, failBatch, finalizeReady, readBatch, startBatch } from '#shared/db/batches.ts'
import {
  type ChunkJob,
  type Claim,
  type ClaimedChunk,
  claimChunk,
  listHeldChunks,
  releaseChunk,
  topUp,
} from '#shared/db/chunks.ts'
import { persist } from '#shared/db/persist.ts'
import { isUnavailable } from '#shared/db/pool.ts'
import type { Ender } from '#shared/db/tasks.ts'
import { FilesUnavailable } from '#shared/files/backend.ts'
import { every } from '#shared/lifecycle.ts'
import type { Metrics } from '#shared/metrics.ts'
import { jobId } from '#shared/queue/names.ts'
import type { Producer } from '#shared/queue/producer.ts'
import type { Tracing } from '#shared/tracing/tracing.ts'
import type { RunOutcome } from '#workers/pipeline/run.ts'
import { traceChunk } from '#workers/traced.ts'
import { removeEarlier, type WriteDeps, writeOutput } from './finalize.ts'
import { type HeldChunk, type RunChunkDeps, runChunk } from './run-chunk.ts'
import { writeLines } from './validate.ts'

export type BatchWorkDeps = CheckDeps &
  WriteDeps &
  RunChunkDeps & {
    workerId: string
    end: Ender
    producer: Pick<Producer, 'dispatch'>
    /** True once the process is stopping. */
    draining(): boolean
    /** Resolves when this process has beaten lately: what is begun after a beat failed may be taken over and repeated. */
    whenFit(): Promise<void>
    metrics: Pick<Metrics, 'batchChunks' | 'batchLines' | 'batchesEnded'>
    tracing: Tracing | null
  }

export type BatchWork = {
  /** Does what one job of the queue `batch` asks for. */
  run(job: { id: string; epoch: number }): Promise<RunOutcome>
  stop(): Promise<void>
}

/** How often a worker looks whether its chunks are still its own, and their batches go on. */
const LOOK_MS = 500
/** Before a chunk that failed is tried again; doubled each time. */
const RETRY_MS = 2000

type StepOutcome = { kind: 'done' } | { kind: 'release'; dispatched: boolean; delayMs?: number; failed?: boolean }
const DONE: StepOutcome = { kind: 'done' }
type Work = { chunk: ClaimedChunk; held: HeldChunk }

/** What a worker process does for batches: claims chunks, does their steps, hands the next over. */
export function createBatchWork(deps: BatchWorkDeps): BatchWork {
  const { db, workerId, producer, metrics, logger } = deps
  const held = new Map<string, { id: string; epoch: number; controller: AbortController }>()
  // The queue may deliver a job twice to one process, whose second claim would pass for a repetition of the first.
  const underWay = new Set<string>()

  const stopLooking = every(
    LOOK_MS,
    async () => {
      if (held.size === 0) return
      if (deps.draining()) for (const one of held.values()) one.controller.abort()
      const before = [...held.values()]
      const own = new Set((await listHeldChunks(db, workerId)).map(jobId))
      for (const one of before) if (!own.has(jobId(one))) one.controller.abort()
    },
    error => logger.debug({ err: error }, 'batches: postgres is away'),
  )

  const dispatch = (jobs: (ChunkJob & { delayMs?: number })[]) =>
    // What fails here, the sweeper does.
    Promise.all(jobs.map(job => producer.dispatch(job).catch(() => undefined)))

  /** After a chunk: the next ones of its batch, or the end of it. */
  async function goOn(batchId: string): Promise<void> {
    const next = await persist(() => topUp(db, batchId))
    await dispatch(next.length > 0 ? next : await persist(() => finalizeReady(db, batchId)))
  }

  /** A claim whose answer was lost may be ours all the same, although its batch has been stopped since: nobody else would give it back. */
  async function claimSurely(claim: Claim): Promise<ClaimedChunk | null> {
    let asked = 0
    const chunk = await persist(() => {
      asked++
      return claimChunk(db, claim)
    })
    if (!chunk && asked > 1) await persist(() => releaseChunk(db, claim, { dispatched: false }))
    return chunk
  }

  async function validate({ chunk, held }: Work): Promise<StepOutcome> {
    const batch = await persist(() => readBatch(db, chunk.batch_id))
    if (!batch) return DONE
    const fail = async (errors: BatchProblem[]) => {
      if (await persist(() => failBatch(db, held, errors))) metrics.batchesEnded.inc({ status: 'failed' })
      return DONE
    }
    const input = await deps.files.read(batch.input_file_id)
    if (!input) return fail([NO_FILE])
    const found = await checkInput(deps, batch, input.bytes, held.signal)
    if (held.signal.aborted) return stopped()
    if (found.problems.length > 0) return fail(found.problems)
    if (found.lines === 0) return fail([EMPTY_FILE])
    const again = await deps.files.read(batch.input_file_id)
    if (!again) return fail([NO_FILE])
    if (!(await writeLines(deps, batch, again.bytes, held.signal))) return stopped()
    const { lines: total, boundUsd, model } = found
    const start = await persist(() => startBatch(db, held, { total, boundUsd, model }))
    return start === 'uneven' ? fail([UNEVEN]) : DONE
  }

  async function run({ held }: Work): Promise<StepOutcome> {
    const outcome = await runChunk(deps, held)
    switch (outcome.kind) {
      case 'finished':
        for (const status of LINE_STATUSES) metrics.batchLines.inc({ status }, outcome.counts[status])
        return DONE
      case 'later':
        return { kind: 'release', dispatched: true, delayMs: outcome.ms }
      case 'stopped':
        return stopped()
      case 'lost':
        return DONE
    }
  }

  async function finalize({ chunk, held }: Work): Promise<StepOutcome> {
    const batch = await persist(() => readBatch(db, chunk.batch_id))
    if (!batch) return DONE
    const openai = batch.surface === 'openai'
    const files = openai ? await writeOutput(deps, batch, held, held.signal) : NO_FILES
    if (!files) return stopped()
    const status = await persist(() => endBatch(db, held, files))
    if (status) metrics.batchesEnded.inc({ status })
    else await removeUnclaimed(batch.id, files)
    if (openai) await removeEarlier(deps.files, held)
    return DONE
  }

  const steps = { validate, run, finalize }

  /**
   * Whoever has taken the chunk over writes files of his own. But if it was the answer to our own ending that was lost, then
   * these are the batch's.
   */
  async function removeUnclaimed(id: string, { output, error }: { output: string | null; error: string | null }) {
    const now = await persist(() => readBatch(db, id))
    const claimed = [now?.output_file_id, now?.error_file_id]
    for (const file of [output, error]) if (file && !claimed.includes(file)) await deps.files.remove(file)
  }

  /** Another worker is to go on; or nobody, if the batch has been stopped: then its lines are ended by the sweeper. */
  const stopped = (): StepOutcome => ({ kind: 'release', dispatched: deps.draining() })

  async function work(chunk: ClaimedChunk, own: HeldChunk): Promise<void> {
    const step = () => steps[chunk.step]({ chunk, held: own })
    const outcome = await traceChunk(deps.tracing, chunk, step).catch((error): StepOutcome => {
      // S3, too: five tries are over in half a minute, and with them what the batch has paid for.
      const away = isUnavailable(error) || error instanceof FilesUnavailable
      logger.error({ err: error, batch_id: chunk.batch_id, step: chunk.step }, 'work on a batch failed')
      const delayMs = RETRY_MS * 2 ** (chunk.claims - 1)
      return { kind: 'release', dispatched: true, delayMs, failed: !away }
    })
    if (outcome.kind === 'done') {
      metrics.batchChunks.inc({ step: chunk.step, outcome: 'done' })
      await goOn(chunk.batch_id)
      return
    }
    if (outcome.failed && chunk.claims >= MAX_CHUNK_CLAIMS) {
      metrics.batchChunks.inc({ step: chunk.step, outcome: 'given_up' })
      await persist(() =>
        giveUpChunk(deps, { id: own.id, epoch: own.epoch, batch_id: chunk.batch_id, step: chunk.step, failed: false }),
      )
      await goOn(chunk.batch_id)
      return
    }
    metrics.batchChunks.inc({ step: chunk.step, outcome: outcome.failed ? 'failed' : 'given_back' })
    const job = await persist(() => releaseChunk(db, own, outcome))
    if (job && outcome.dispatched) await dispatch([{ ...job, ...(outcome.delayMs && { delayMs: outcome.delayMs }) }])
  }

  return {
    async run(job) {
      const dispatch = jobId(job)
      if (underWay.has(dispatch)) return 'done'
      if (deps.draining()) return 'give_back'
      underWay.add(dispatch)
      try {
        await deps.whenFit()
        const claim = { id: job.id, epoch: job.epoch, workerId }
        const chunk = await claimSurely(claim)
        if (!chunk) return 'done'
        // Held only once it is ours: what Postgres does not show as ours counts as lost.
        const controller = new AbortController()
        held.set(dispatch, { ...job, controller })
        await work(chunk, { ...claim, signal: controller.signal })
        return 'done'
      } finally {
        held.delete(dispatch)
        underWay.delete(dispatch)
      }
    },
    stop: stopLooking,
  }
}

const LINE_STATUSES = ['succeeded', 'failed', 'cancelled', 'expired'] as const
const NO_FILES = { output: null, error: null }
const NO_FILE: BatchProblem = {
  line: null,
  code: 'input_file_not_found',
  message: 'The input file is gone.',
  param: 'input_file_id',
}
const EMPTY_FILE: BatchProblem = { line: null, code: 'empty_file', message: 'The file has no lines.', param: null }
/** Of a version that cut it up in another way, and died. Reading it once more would come to the same. */
const UNEVEN: BatchProblem = {
  line: null,
  code: 'lines_uneven',
  message: 'Two versions of Sluice have read the file in parts that do not fit together: start the batch again.',
  param: null,
}

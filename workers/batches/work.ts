import { type CheckDeps, checkInput } from '#shared/batches/check-input.ts'
import { failChunk, MAX_CHUNK_CLAIMS } from '#shared/batches/fail-chunk.ts'
import type { ChunkJob } from '#shared/db/batches/chunk.ts'
import {
  type ChunkClaim,
  type ClaimedChunk,
  claimChunk,
  listHeldChunks,
  releaseChunk,
} from '#shared/db/batches/claim-chunk.ts'
import { dispatchNextChunks } from '#shared/db/batches/dispatch-chunks.ts'
import { endBatch } from '#shared/db/batches/end.ts'
import { failBatch } from '#shared/db/batches/fail.ts'
import { finalizeReady } from '#shared/db/batches/finalize.ts'
import { readBatch } from '#shared/db/batches/read.ts'
import type { BatchProblem } from '#shared/db/batches/row.ts'
import { startBatch } from '#shared/db/batches/start.ts'
import { isUnavailable } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import type { FinishTask } from '#shared/db/tasks/finish.ts'
import type { RunOutcome } from '#shared/engine/conclude.ts'
import { traceChunk } from '#shared/engine/traced-runner.ts'
import { FilesUnavailable } from '#shared/files/backend.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Liveness } from '#shared/process/liveness.ts'
import { jobId } from '#shared/queue/names.ts'
import type { Producer } from '#shared/queue/producer.ts'
import type { Tracing } from '#shared/tracing/tracing.ts'
import { removeEarlier, type WriteDeps, writeOutput } from './finalize.ts'
import { type HeldChunk, type RunChunkDeps, runChunk } from './run-chunk.ts'
import { writeLines } from './validate.ts'

export type BatchWorkDeps = CheckDeps &
  WriteDeps &
  RunChunkDeps & {
    workerId: string
    end: FinishTask
    producer: Pick<Producer, 'dispatch'>
    /** Whether the process is stopping. */
    draining(): boolean
    /** Resolves once the last heartbeat is recent: work that begins after a missed heartbeat may be taken over and repeated. */
    untilHealthy(): Promise<void>
    liveness: Pick<Liveness, 'deadAfterMs'>
    metrics: Pick<Metrics, 'batchChunks' | 'batchLines' | 'batchesEnded'>
    tracing: Tracing | null
  }

export type BatchWork = {
  /** Runs one job of the queue `batch`. */
  run(job: { id: string; epoch: number }): Promise<RunOutcome>
  stop(): Promise<void>
}

/** Interval at which a worker checks that it still holds its chunks and that their batches continue. */
const POLL_MS = 500
/** Pause before the first retry of a failed chunk; it doubles with each retry. */
const RETRY_MS = 2000

type StepOutcome = { kind: 'done' } | { kind: 'release'; dispatched: boolean; delayMs?: number; failed?: boolean }
const DONE: StepOutcome = { kind: 'done' }
type Work = { chunk: ClaimedChunk; held: HeldChunk }

/** Processes batches: claims chunks, runs their steps and dispatches the next ones. */
export function createBatchWork(deps: BatchWorkDeps): BatchWork {
  const { db, workerId, producer, metrics, logger } = deps
  const held = new Map<string, { id: string; epoch: number; controller: AbortController }>()
  // The queue may deliver a job twice to one process, and Postgres would accept the second claim as a repetition of the first.
  const inFlight = new Set<string>()

  const stopLooking = repeatEvery(
    POLL_MS,
    async () => {
      if (held.size === 0) return
      if (deps.draining()) for (const one of held.values()) one.controller.abort()
      const before = [...held.values()]
      const own = new Set((await listHeldChunks(db, workerId)).map(jobId))
      for (const one of before) if (!own.has(jobId(one))) one.controller.abort()
    },
    error => logger.debug({ err: error }, 'batches: postgres is unavailable'),
  )

  const dispatch = (jobs: (ChunkJob & { delayMs?: number })[]) =>
    // The sweeper dispatches jobs that fail here.
    Promise.all(jobs.map(job => producer.dispatch(job).catch(() => undefined)))

  /** Dispatches the next chunks of the batch, or its end. */
  async function advanceBatch(batchId: string): Promise<void> {
    const next = await retryUnavailable(() => dispatchNextChunks(db, batchId, deps.liveness.deadAfterMs))
    await dispatch(next.length > 0 ? next : await retryUnavailable(() => finalizeReady(db, batchId)))
  }

  /** A claim may be committed although its response was lost. If its batch was stopped since, only this worker can release it. */
  async function retryUncertainClaim(claim: ChunkClaim): Promise<ClaimedChunk | null> {
    let tries = 0
    const chunk = await retryUnavailable(() => {
      tries++
      return claimChunk(db, claim)
    })
    if (!chunk && tries > 1) await retryUnavailable(() => releaseChunk(db, claim, { dispatched: false }))
    return chunk
  }

  async function validate({ chunk, held }: Work): Promise<StepOutcome> {
    const batch = await retryUnavailable(() => readBatch(db, chunk.batch_id))
    if (!batch) return DONE
    const fail = async (errors: BatchProblem[]) => {
      if (await retryUnavailable(() => failBatch(db, held, errors))) metrics.batchesEnded.inc({ status: 'failed' })
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
    const start = await retryUnavailable(() => startBatch(db, held, { total, boundUsd, model }))
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
    const batch = await retryUnavailable(() => readBatch(db, chunk.batch_id))
    if (!batch) return DONE
    const openai = batch.surface === 'openai'
    const files = openai ? await writeOutput(deps, batch, held, held.signal) : NO_FILES
    if (!files) return stopped()
    const status = await retryUnavailable(() => endBatch(db, held, files))
    if (status) metrics.batchesEnded.inc({ status })
    else await removeUnclaimed(batch.id, files)
    if (openai) await removeEarlier(deps.files, held)
    return DONE
  }

  const steps = { validate, run, finalize }

  /** Deletes the files unless the batch refers to them: the end of the batch may be committed although its response was lost. */
  async function removeUnclaimed(id: string, { output, error }: { output: string | null; error: string | null }) {
    const now = await retryUnavailable(() => readBatch(db, id))
    const claimed = [now?.output_file_id, now?.error_file_id]
    for (const file of [output, error]) if (file && !claimed.includes(file)) await deps.files.remove(file)
  }

  /** Another worker continues with the chunk, unless the batch was stopped: then the sweeper ends its lines. */
  const stopped = (): StepOutcome => ({ kind: 'release', dispatched: deps.draining() })

  async function work(chunk: ClaimedChunk, own: HeldChunk): Promise<void> {
    const step = () => steps[chunk.step]({ chunk, held: own })
    const outcome = await traceChunk(deps.tracing, chunk, step).catch((error): StepOutcome => {
      // An outage, also of S3, is no failure of the chunk: five tries end in half a minute, and the batch has paid for its results.
      const away = isUnavailable(error) || error instanceof FilesUnavailable
      logger.error({ err: error, batch_id: chunk.batch_id, step: chunk.step }, 'a step of a batch failed')
      const delayMs = RETRY_MS * 2 ** (chunk.claims - 1)
      return { kind: 'release', dispatched: true, delayMs, failed: !away }
    })
    if (outcome.kind === 'done') {
      metrics.batchChunks.inc({ step: chunk.step, outcome: 'done' })
      await advanceBatch(chunk.batch_id)
      return
    }
    if (outcome.failed && chunk.claims >= MAX_CHUNK_CLAIMS) {
      metrics.batchChunks.inc({ step: chunk.step, outcome: 'given_up' })
      await retryUnavailable(() =>
        failChunk(deps, { id: own.id, epoch: own.epoch, batch_id: chunk.batch_id, step: chunk.step, failed: false }),
      )
      await advanceBatch(chunk.batch_id)
      return
    }
    metrics.batchChunks.inc({ step: chunk.step, outcome: outcome.failed ? 'failed' : 'given_back' })
    const job = await retryUnavailable(() => releaseChunk(db, own, outcome))
    if (job && outcome.dispatched) await dispatch([{ ...job, ...(outcome.delayMs && { delayMs: outcome.delayMs }) }])
  }

  return {
    async run(job) {
      const dispatch = jobId(job)
      if (inFlight.has(dispatch)) return 'done'
      if (deps.draining()) return 'give_back'
      inFlight.add(dispatch)
      try {
        await deps.untilHealthy()
        const claim = { id: job.id, epoch: job.epoch, workerId }
        const chunk = await retryUncertainClaim(claim)
        if (!chunk) return 'done'
        // Held only after the claim: a held chunk that Postgres does not list as ours counts as lost.
        const controller = new AbortController()
        held.set(dispatch, { ...job, controller })
        await work(chunk, { ...claim, signal: controller.signal })
        return 'done'
      } finally {
        held.delete(dispatch)
        inFlight.delete(dispatch)
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
/** A version that split the file differently died while it wrote the lines. Another validation would end the same way. */
const UNEVEN: BatchProblem = {
  line: null,
  code: 'lines_uneven',
  message: 'Two versions of Sluice have read the file in parts that do not fit together: start the batch again.',
  param: null,
}

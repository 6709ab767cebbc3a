import { setTimeout as startTimer } from 'node:timers'
import type { Settlement } from '#shared/db/attempts.ts'
import { persist } from '#shared/db/persist.ts'
import type { RunnableTask } from '#shared/db/tasks.ts'
import type { ErrorCode, TaskError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import type { Logger } from '#shared/logger.ts'
import { jobId } from '#shared/queue/names.ts'
import { type Available, type Candidate, route } from '#shared/routing.ts'
import { clean } from '#shared/text.ts'
import type { Held, StopReason } from '#workers/held.ts'
import type { ProviderHealth } from '#workers/provider-health.ts'
import type { CallAnswer, CallFailure, Usage } from '#workers/providers/define.ts'
import type { Admit } from './admit.ts'
import { backoff } from './backoff.ts'
import type { CallInput, CallResult } from './call.ts'
import { check } from './check.ts'
import type { Claims } from './claim.ts'
import type { Settle } from './settle.ts'

export type RunDeps = {
  workerId: string
  jobs: ReadonlyMap<string, JobKind>
  load(job: { id: string; epoch: number }): Promise<RunnableTask | null>
  available(): Promise<Available[]>
  admission: Admit
  claims: Claims
  call(input: CallInput): Promise<CallResult>
  health: Pick<ProviderHealth, 'note'>
  settle: Settle
  held: Held
  /** True once the process is stopping: nothing new is claimed. */
  draining(): boolean
  maxAttempts: number
  backoff: { baseMs: number; maxMs: number }
  logger: Logger
}

/** `give_back`: not begun, since the process is stopping; the queue should hand the job to another. */
export type RunOutcome = 'done' | 'give_back'

/** A worker that does not know a kind is older than the API: a newer one may take the task. */
const UNKNOWN_KIND_WAIT_MS = 5000

/** What is kept of the time to the deadline to end the task in, with a reason: a tenth, at most a second. */
const marginMs = (task: RunnableTask) => Math.min(1000, task.left_ms / 10)

/** Why the last call failed. */
type Failed = { code: ErrorCode; message: string }

/**
 * Runs one dispatched task through the stages: route, admit, claim, call, check, settle. This file alone owns the loop
 * over candidates; no stage calls another.
 */
export function createRunner(deps: RunDeps): (job: { id: string; epoch: number }) => Promise<RunOutcome> {
  // After a flush the queue may deliver a job twice to one process, and the second claim would pass for a repetition of
  // the first.
  const underWay = new Set<string>()
  return async job => {
    // With its epoch: the next dispatch of a task may well arrive while this one is still being put away.
    const dispatch = jobId(job)
    if (underWay.has(dispatch)) return 'done'
    underWay.add(dispatch)
    try {
      return await runTask(deps, job)
    } finally {
      underWay.delete(dispatch)
    }
  }
}

async function runTask(deps: RunDeps, job: { id: string; epoch: number }): Promise<RunOutcome> {
  const task = await persist(() => deps.load(job))
  if (!task) return 'done'
  if (deps.draining()) return 'give_back'
  const kind = deps.jobs.get(task.kind)
  if (!kind) {
    await deps.settle.requeue(task, { delayMs: UNKNOWN_KIND_WAIT_MS, tries: task.tries, settlement: null })
    return 'done'
  }
  const run = createRun(deps, task, kind)
  try {
    return await run.loop()
  } catch (error) {
    deps.logger.error({ err: error, task_id: task.id, kind: task.kind }, 'a stage failed unexpectedly')
    await run.giveUp()
    return 'done'
  } finally {
    run.close()
  }
}

/** The state of one run: which attempt is the newest, whether the task is claimed, which call failed last. */
function createRun(deps: RunDeps, task: RunnableTask, kind: JobKind) {
  const { admission, claims, settle, held, logger } = deps
  const options = task.options as TaskOptions
  const controller = new AbortController()
  const deadline = performance.now() + task.left_ms
  /** For calls and waits: what is left to the deadline but for the time to end in. */
  const leftMs = () => deadline - marginMs(task) - performance.now()
  const timer = startTimer(() => controller.abort('deadline' satisfies StopReason), Math.max(0, task.left_ms))
  /** Number of the newest attempt. */
  let n = task.attempts
  let tries = task.tries
  let claimed = false
  let failed: Failed | null = null
  /** The newest attempt while nobody knows yet what comes of it. */
  let calling: Candidate | null = null
  /** What came of it; written together with what comes next. */
  let settlement: Settlement | null = null

  const begin = async (candidate: Candidate): Promise<boolean> => {
    const request = { id: task.id, epoch: task.epoch, n: n + 1, ...candidate }
    const got = settlement
      ? await claims.next({ ...request, tries, settlement })
      : await claims.claim(request, controller)
    if (!got) return false
    n++
    claimed = true
    calling = candidate
    settlement = null
    return true
  }

  const settled = (candidate: Candidate, outcome: string, usage: Usage | null, error?: Settlement['error']) => {
    calling = null
    settlement = settle.attempt(n, candidate, outcome, usage, error)
  }

  const end = (how: { status: 'succeeded' | 'failed' | 'expired' } & Partial<Outcome>) =>
    settle.end({
      id: task.id,
      epoch: task.epoch,
      from: claimed ? 'running' : 'queued',
      workerId: claimed ? deps.workerId : null,
      settlement,
      ...how,
    })

  const fail = (code: ErrorCode, message: string) => {
    if (calling) settled(calling, 'unknown', null, { code, message })
    return end({ status: 'failed', error: { code, message } })
  }

  /** After a bug. What could not be stored must not be what keeps the task from ending: then the attempt is unknown. */
  const giveUp = async () => {
    try {
      return await fail('internal', BUG)
    } catch (error) {
      logger.error({ err: error, task_id: task.id }, 'its settlement was refused: ending without it')
      if (settlement) settlement = { n, outcome: 'unknown', usage: null, costUsd: null, priceVersion: null }
      return await fail('internal', BUG)
    }
  }

  const succeed = (candidate: Candidate, answer: CallAnswer, result: unknown) => {
    settled(candidate, 'succeeded', answer.usage)
    return end({
      status: 'succeeded',
      result,
      source: 'ai',
      quality: 'high',
      provider: candidate.provider,
      model: clean(answer.model),
    })
  }

  const expire = () =>
    end({
      status: 'expired',
      error: {
        code: 'deadline_exceeded',
        message: `There was no answer within the deadline.${failed ? ` ${failed.message}` : ''}`,
      },
    })

  /** The call was stopped from outside: its attempt is settled, the task goes where the reason says. */
  async function stopped(candidate: Candidate, reason: StopReason, failure: CallFailure): Promise<void> {
    settled(candidate, 'aborted', failure.usage, { code: 'aborted', message: WHY_STOPPED[reason] })
    if (reason === 'deadline') {
      await expire()
    } else {
      // If the claim is gone this settles the attempt and nothing else.
      await settle.requeue(task, { delayMs: 0, tries, settlement })
    }
  }

  /** Nobody answered: wait for the one that may answer soonest, or make do without a model. */
  async function unanswered(candidates: Candidate[], waits: number[]): Promise<void> {
    const delayMs = Math.min(...waits)
    if (tries < deps.maxAttempts && delayMs < leftMs()) {
      await settle.requeue(task, { delayMs, tries, settlement })
      return
    }
    const result = (options.fallback ?? kind.fallback) === 'rules' ? kind.rules(task.input) : null
    if (result !== null) {
      await end({
        status: 'succeeded',
        result,
        source: 'rules',
        quality: 'low',
      })
    } else if (leftMs() <= 0) {
      await expire()
    } else if (failed) {
      await fail(failed.code, failed.message)
    } else if (candidates.length === 0 && task.dead_ends.length === 0) {
      await fail('no_provider', 'No configured provider can answer this task.')
    } else {
      await fail('provider_failed', 'No provider can answer before the deadline.')
    }
  }

  async function loop(): Promise<RunOutcome> {
    const candidates = route(options, await deps.available()).filter(
      one => !task.dead_ends.includes(`${one.provider}/${one.model}`),
    )
    const waits: number[] = []
    for (const candidate of candidates) {
      if (tries >= deps.maxAttempts || leftMs() <= 0) break
      const admitted = admission.admit(candidate)
      if (admitted.kind === 'closed') {
        waits.push(admitted.ms)
        continue
      }
      if (!claimed && deps.draining()) return 'give_back'
      if (!(await begin(candidate))) return 'done'

      const called = await deps.call({ task, kind, candidate, attempt: n, signal: controller.signal, leftMs: leftMs() })
      deps.health.note(candidate.provider, called)
      if (called.kind === 'answer') {
        const verdict = check(kind, task.input, called.answer)
        if (verdict.ok) {
          await succeed(candidate, called.answer, verdict.result)
          return 'done'
        }
        tries++
        settled(candidate, 'rejected', called.answer.usage, { code: 'rejected', message: verdict.reason })
        failed = { code: 'invalid_output', message: verdict.reason }
        waits.push(0)
        continue
      }

      const { failure } = called
      if (controller.signal.aborted) {
        await stopped(candidate, controller.signal.reason as StopReason, failure)
        return 'done'
      }
      tries++
      logger.debug(
        { task_id: task.id, ...candidate, outcome: failure.kind, status: failure.status },
        'provider call failed',
      )
      settled(candidate, failure.kind, failure.usage, { code: failure.kind, message: failure.message })
      failed = { code: 'provider_failed', message: `${candidate.provider}: ${failure.message}` }
      if (failure.scope === 'task') {
        await fail('provider_rejected', failed.message)
        return 'done'
      }
      if (failure.scope === 'provider') continue
      if (failure.retryAfterMs !== null) admission.pause(candidate, failure.retryAfterMs)
      waits.push(failure.retryAfterMs ?? backoff(tries, deps.backoff))
    }
    await unanswered(candidates, waits)
    return 'done'
  }

  return {
    loop,
    giveUp,
    close() {
      clearTimeout(timer)
      held.remove(task)
    },
  }
}

type Outcome = {
  result: unknown
  source: 'ai' | 'rules'
  quality: 'high' | 'low'
  provider: string
  model: string
  error: TaskError
}

const BUG = 'Something went wrong in the worker.'

const WHY_STOPPED: Record<StopReason, string> = {
  lost: 'The task was cancelled or had ended.',
  deadline: 'The task’s deadline passed.',
  drain: 'The worker was stopping.',
  no_beat: 'The worker had lost its connection to the database.',
}

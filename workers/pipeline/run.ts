import { setTimeout as startTimer } from 'node:timers'
import { backoff } from '#shared/backoff.ts'
import type { Settlement } from '#shared/db/attempts.ts'
import type { ClaimOutcome, Need, Refusal } from '#shared/db/claims.ts'
import { persist } from '#shared/db/persist.ts'
import type { Quality, RunnableTask, Source } from '#shared/db/tasks.ts'
import type { ErrorCode, TaskError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import type { Ask, JobKind, Tools } from '#shared/jobs/define.ts'
import { filtersOutput, type KeptOptions } from '#shared/jobs/options.ts'
import { bulkOf, hasPrompt, promptOf, repairing, wordsOf } from '#shared/jobs/prompt.ts'
import type { Logger } from '#shared/logger.ts'
import type { Metrics, STAGES } from '#shared/metrics.ts'
import { jobId } from '#shared/queue/names.ts'
import { type Available, type Candidate, candidateKey, route, type Signals } from '#shared/routing.ts'
import { clean } from '#shared/text.ts'
import { traceIds } from '#shared/tracing/tracing.ts'
import type { Bulk } from '#workers/bulk.ts'
import type { Held, StopReason } from '#workers/held.ts'
import type { ProviderHealth } from '#workers/provider-health.ts'
import type { CallAnswer, CallFailure, Usage } from '#workers/providers/define.ts'
import { type Admit, type Pass, resultOf } from './admit.ts'
import type { CallInput, CallResult } from './call.ts'
import type { check, Verdict } from './check.ts'
import type { Claims } from './claim.ts'
import { type NeedPrices, needOf } from './need.ts'
import type { Settle } from './settle.ts'
import { contendedMs, type Failed, overBudget, untilAnswerable, type Wait, whyUnanswered } from './unanswered.ts'
import { beforeCalls, insteadOfCalls, type UncalledDeps } from './uncalled.ts'

export type RunDeps = UncalledDeps & {
  workerId: string
  jobs: ReadonlyMap<string, JobKind>
  load(job: { id: string; epoch: number }): Promise<RunnableTask | null>
  available(): Promise<Available[]>
  scores(): ReadonlyMap<string, Signals>
  prices: NeedPrices
  admission: Pick<Admit, 'admit'>
  claims: Claims
  call(input: CallInput): Promise<CallResult>
  check: typeof check
  health: Pick<ProviderHealth, 'note'>
  settle: Settle
  metrics: Pick<Metrics, 'stageSeconds'>
  tools: Tools
  held: Held
  /** For answers that are large. */
  bulk: Bulk
  /** True once the process is stopping: nothing new is claimed. */
  draining(): boolean
  maxAttempts: number
  backoff: { baseMs: number; maxMs: number }
  logger: Logger
}

/**
 * `give_back`: not begun, since the process is stopping; the queue should hand the job to another. `again`: a line that is to run
 * again, under a new epoch and not before `ms` are over; `called`: not for want of a permit or a budget.
 */
export type RunOutcome = 'done' | 'give_back' | { kind: 'again'; epoch: number; ms: number; called: boolean }

/** A worker that does not know a kind or a version of its prompt is older than the API: a newer one may take the task. */
const UNKNOWN_KIND_WAIT_MS = 5000

/** What is kept of the time to the deadline to end the task in, with a reason: a tenth, at most a second. */
const marginMs = (task: RunnableTask) => Math.min(1000, task.left_ms / 10)

/** A database so slow that permits expire while tasks are claimed is not to be asked again at once. */
const LATE_PERMIT_MS = 500
/** Too short to stand in the line for a concurrent call, in front of whoever is not a batch. */
const LINE_BOOKS_MS = 150
/** The pause after a refusal for the rate that did not say how long, or said a time that has passed by our clock. */
const RATE_PAUSE_MS = 1000

/** What a failure asks of everybody; others than these are one call's business. 0 asks for none. */
const pauseOf = ({ kind, retryAfterMs }: CallFailure): number | null => {
  if (kind === 'rate_limited') return retryAfterMs || RATE_PAUSE_MS
  return kind === 'overloaded' ? retryAfterMs || null : null
}

/** Answers that failed their check are asked for again so often at most, and not after other failures in their stead. */
const MOST_REPAIRS = 2

/**
 * Runs one dispatched task through the stages: route, admit, claim, call, check, settle. This file alone owns the loop
 * over candidates; no stage calls another.
 */
export function createRunner(
  deps: RunDeps,
): (job: { id: string; epoch: number }, slow?: () => void) => Promise<RunOutcome> {
  // After a flush the queue may deliver a job twice to one process, and the second claim would pass for a repetition of
  // the first.
  const underWay = new Set<string>()
  return async (job, slow = () => undefined) => {
    // With its epoch: the next dispatch of a task may well arrive while this one is still being put away.
    const dispatch = jobId(job)
    if (underWay.has(dispatch)) return 'done'
    underWay.add(dispatch)
    try {
      return await runTask(deps, job, slow)
    } finally {
      underWay.delete(dispatch)
    }
  }
}

async function runTask(deps: RunDeps, job: { id: string; epoch: number }, slow: () => void): Promise<RunOutcome> {
  const task = await persist(() => deps.load(job))
  if (!task) return 'done'
  if (deps.draining()) return 'give_back'
  const kind = deps.jobs.get(task.kind)
  if (!kind || !hasPrompt(kind, task.options)) {
    const wait = { delayMs: UNKNOWN_KIND_WAIT_MS, tries: task.tries, settlement: null, claimed: false }
    return againIfLine(task, await deps.settle.requeue(task, wait), wait.delayMs, false)
  }
  // A line queues with its chunk.
  if (!task.batch_id) deps.metrics.stageSeconds.observe({ stage: 'queue', kind: task.kind }, task.waited_ms / 1000)
  const run = createRun(deps, task, kind, slow)
  try {
    const outcome = await run.loop()
    return outcome === 'done' ? run.after() : outcome
  } catch (error) {
    deps.logger.error({ err: error, ...idsOf(task), kind: task.kind }, 'a stage failed unexpectedly')
    await run.giveUp()
    return 'done'
  } finally {
    run.close()
  }
}

/** For a line of the log. */
const idsOf = ({ id, traceparent }: RunnableTask) => ({ task_id: toWire('task', id), ...traceIds(traceparent) })

/** The queue has a task that waits; a line is in its chunk's hands. */
const againIfLine = (task: RunnableTask, epoch: number | null, ms: number, called: boolean): RunOutcome =>
  task.batch_id && epoch !== null ? { kind: 'again', epoch, ms, called } : 'done'

/** The newest attempt while nobody knows yet what comes of it. */
type Calling = { candidate: Candidate; need: Need; at: Date }

/** The state of one run: which attempt is the newest, whether the task is claimed, which call failed last. */
function createRun(deps: RunDeps, task: RunnableTask, kind: JobKind, onSlow: () => void) {
  const { admission, claims, settle, held, recall, logger } = deps
  const options = task.options as KeptOptions
  const prompt = promptOf(kind, task.input, options)
  /** That an answer be mended, if that is what the next call asks for. */
  let mending: Ask | null = null
  /** For a model that is asked in a form of its own; null: it is asked as everybody is. */
  const ownPromptTo = ({ model }: Candidate) => (kind.operation === 'chat' ? kind.promptFor(task.input, model) : null)
  const promptTo = (candidate: Candidate): Ask => mending ?? ownPromptTo(candidate) ?? prompt
  /** An answer that failed its check, if the same model may do better. */
  let wrong: { text: string; reason: string } | null = null
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
  let calling: Calling | null = null
  /** What came of the newest attempt; written together with what comes next. */
  let settlement: Settlement | null = null
  const waits: Wait[] = []
  const refusals: Refusal[] = []
  let unpriced: Candidate | null = null
  /** What is to become of a line that was given back. */
  let after: RunOutcome = 'done'

  async function timed<T>(stage: (typeof STAGES)[number], work: () => T | Promise<T>): Promise<T> {
    const end = deps.metrics.stageSeconds.startTimer({ stage, kind: kind.kind })
    try {
      return await work()
    } finally {
      end()
    }
  }

  async function begin(candidate: Candidate, need: Need): Promise<ClaimOutcome> {
    const at = new Date()
    const request = { id: task.id, epoch: task.epoch, n: n + 1, need }
    const outcome = await timed('claim', () =>
      claimed ? claims.next({ ...request, tries, settlement }) : claims.claim(request, controller),
    )
    if (claimed) settlement = null
    if (outcome.kind !== 'claimed') return outcome
    n++
    claimed = true
    calling = { candidate, need, at }
    return outcome
  }

  const settled = (
    { need, at }: Calling,
    outcome: string,
    usage: Usage | null,
    more: { error?: Settlement['error']; billed?: boolean; begun?: boolean } = {},
  ) => {
    calling = null
    settlement = settle.attempt({ n, need, at, outcome, usage, billed: true, ...more })
  }

  async function end(how: { status: 'succeeded' | 'failed' | 'expired' } & Partial<Outcome>): Promise<void> {
    await timed('settle', () =>
      settle.end({
        id: task.id,
        epoch: task.epoch,
        from: claimed ? 'running' : 'queued',
        workerId: claimed ? deps.workerId : null,
        settlement,
        ...how,
      }),
    )
    recall.landed(task)
  }

  const fail = (code: ErrorCode, message: string) => {
    if (calling) settled(calling, 'unknown', null, { error: { code, message } })
    return end({ status: 'failed', error: { code, message } })
  }

  /** After a bug. What could not be stored must not be what keeps the task from ending: then the attempt is unknown. */
  const giveUp = async () => {
    try {
      return await fail('internal', BUG)
    } catch (error) {
      logger.error({ err: error, ...idsOf(task) }, 'its settlement was refused: ending without it')
      if (settlement) settlement = { n, outcome: 'unknown', usage: null, costUsd: null }
      return await fail('internal', BUG)
    }
  }

  async function succeed(
    called: Calling,
    answer: Pick<CallAnswer, 'usage' | 'model'>,
    { result, filtered }: Usable,
  ): Promise<void> {
    settled(called, 'succeeded', answer.usage)
    const by = { result, provider: called.candidate.provider, model: clean(answer.model) }
    // Sent before the task ends, as whoever comes between must find one or the other; that takes longer.
    const remembered = kind.keeps(result) ? recall.remember(task, kind, by) : null
    await end({ status: 'succeeded', source: 'ai', quality: 'high', ...by, outputFiltered: filtered })
    await remembered
  }

  const expire = () =>
    end({
      status: 'expired',
      error: {
        code: 'deadline_exceeded',
        message: `There was no answer within the deadline.${failed ? ` ${failed.message}` : ''}`,
      },
    })

  async function requeue(delayMs: number): Promise<void> {
    const epoch = await timed('settle', () => settle.requeue(task, { delayMs, tries, settlement, claimed }))
    after = againIfLine(task, epoch, delayMs, n > task.attempts)
  }

  /** The call was stopped from outside: its attempt is settled, the task goes where the reason says. */
  async function stopped(called: Calling, reason: StopReason, failure: CallFailure): Promise<void> {
    const error = { code: 'aborted', message: WHY_STOPPED[reason] }
    settled(called, 'aborted', failure.usage, { error, billed: failure.sent })
    // If the claim is gone the requeue settles the attempt and nothing else.
    await (reason === 'deadline' ? expire() : requeue(0))
  }

  /** Nobody answered: wait for whoever may answer soonest, or make do without a model. */
  async function unanswered(candidates: Candidate[]): Promise<void> {
    const obstacles = { waits, refusals, unpriced, failed }
    const delayMs = untilAnswerable(task, obstacles)
    if (tries < deps.maxAttempts && delayMs < leftMs()) {
      await requeue(delayMs)
      return
    }
    const budget = overBudget(obstacles)
    // A task of before this option was there has none.
    if (!budget || (options.on_budget ?? 'fallback') === 'fallback') {
      const instead = await insteadOfCalls(deps, task, kind)
      if (instead) return await end(instead)
    }
    if (leftMs() <= 0) return await expire()
    const { code, message } = whyUnanswered(obstacles, candidates.length > 0 || task.dead_ends.length > 0)
    await fail(code, message)
  }

  /** One call, with everything around it. `null`: the next candidate, please. */
  async function attempt(candidate: Candidate, book: boolean): Promise<RunOutcome | null> {
    wrong = null
    const gone = deps.bulk.take(bulkOf(promptTo(candidate)))
    if (!gone) {
      waits.push({ candidate, ms: contendedMs(task), bookable: false })
      return null
    }
    try {
      return await admitted(candidate, book)
    } finally {
      gone()
    }
  }

  async function admitted(candidate: Candidate, book: boolean): Promise<RunOutcome | null> {
    const need = needOf(deps.prices, task, kind, candidate, promptTo(candidate))
    if (!need) {
      unpriced = candidate
      return null
    }
    if (!claimed && deps.draining()) return 'give_back'
    const admittance = await timed('gate', () =>
      admission.admit({
        id: task.id,
        candidate,
        inputTokens: need.inputTokens,
        outputTokens: need.outputTokens,
        maxWaitMs: book ? Math.max(0, Math.min(leftMs(), task.batch_id ? LINE_BOOKS_MS : leftMs())) : 0,
        lane: task.batch_id ? 'batch' : 'normal',
        // If it waits, it is under the next epoch.
        wake: `${task.queue} ${jobId({ id: task.id, epoch: task.epoch + 1 })}`,
      }),
    )
    if (admittance.kind === 'wait')
      deps.metrics.stageSeconds.observe({ stage: 'gate', kind: kind.kind }, admittance.ms / 1000)
    if (admittance.kind === 'never') {
      failed = {
        code: 'provider_failed',
        message: `${candidate.provider}: the limit (${admittance.limit}) is 0, or less than this task alone may need.`,
      }
      return null
    }
    if (admittance.kind !== 'go') {
      waits.push({ candidate, ms: admittance.ms, bookable: admittance.kind === 'closed' && admittance.bookable })
      return null
    }

    const { pass } = admittance
    const begun = await begin(candidate, need).catch(error => {
      pass.release()
      throw error
    })
    if (begun.kind !== 'claimed') {
      pass.release()
      if (begun.kind === 'lost') return 'done'
      refusals.push(begun.by)
      return null
    }
    const current = calling!
    if (!pass.start()) {
      pass.release()
      settled(current, 'aborted', null, { error: LATE, billed: false })
      waits.push({ candidate, ms: LATE_PERMIT_MS * (1 + Math.random()), bookable: false })
      return null
    }
    return await make(current, pass)
  }

  async function make(current: Calling, pass: Pass): Promise<RunOutcome | null> {
    const { candidate } = current
    const from = performance.now()
    const { slowAfterMs } = pass
    let wasSlow = false
    const slow = () => {
      wasSlow = true
      pass.slow()
      onSlow()
    }
    const called = await deps
      .call({
        task,
        kind,
        prompt: promptTo(candidate),
        candidate,
        attempt: n,
        signal: controller.signal,
        leftMs: leftMs(),
        slowAfterMs,
        slow,
      })
      .catch(error => {
        pass.report({ result: 'neutral', latencyMs: 0, inputTokens: null, outputTokens: null, retryAfterMs: null })
        throw error
      })
    // A deadline that left the provider no time says nothing of it.
    const unheard = called.kind === 'failure' && called.hurried && !wasSlow
    if (!unheard) deps.health.note(candidate.provider, called)
    const failure = called.kind === 'failure' ? called.failure : null
    const { usage, limits } = called.kind === 'answer' ? called.answer : called.failure
    pass.report({
      result: failure ? resultOf(unheard || controller.signal.aborted ? 'aborted' : failure.kind) : 'success',
      latencyMs: performance.now() - from,
      inputTokens: usage?.inputTokens ?? null,
      outputTokens: usage?.outputTokens ?? null,
      retryAfterMs: failure && pauseOf(failure),
      ...(limits && { headers: limits }),
    })

    if (called.kind === 'answer') {
      const { answer } = called
      const verdict = await timed('check', () =>
        deps.check(
          kind,
          { input: task.input, model: candidate.model, filter: filtersOutput(kind, options), tools: deps.tools },
          answer,
        ),
      )
      if (verdict.ok) {
        await succeed(current, called.answer, verdict)
        return 'done'
      }
      tries++
      settled(current, 'rejected', called.answer.usage, { error: { code: 'rejected', message: verdict.reason } })
      if (verdict.fatal) {
        await fail(verdict.fatal, verdict.reason)
        return 'done'
      }
      failed = { code: 'invalid_output', message: verdict.reason }
      if (verdict.again && 'text' in called.answer) wrong = { text: clean(called.answer.text), reason: verdict.reason }
      // Who refused would refuse again, and be paid again.
      const refused = 'text' in called.answer && called.answer.stop === 'refusal'
      if (!refused) waits.push({ candidate, ms: 0, bookable: false })
      return null
    }
    return await failedCall(current, called.failure)
  }

  async function failedCall(current: Calling, failure: CallFailure): Promise<RunOutcome | null> {
    const { candidate } = current
    if (controller.signal.aborted) {
      await stopped(current, controller.signal.reason as StopReason, failure)
      return 'done'
    }
    tries++
    logger.debug(
      { ...idsOf(task), ...candidate, outcome: failure.kind, status: failure.status },
      'provider call failed',
    )
    const error = { code: failure.kind, message: failure.message }
    settled(current, failure.kind, failure.usage, { error, billed: failure.sent, begun: failure.begun })
    failed = { code: 'provider_failed', message: `${candidate.provider}: ${failure.message}` }
    if (failure.scope === 'task') {
      await fail('provider_rejected', failed.message)
      return 'done'
    }
    if (failure.scope === 'none') {
      // Whoever asks for no wait, or until a time that has passed by our clock, must not have all attempts at once.
      const ms = Math.max(failure.retryAfterMs ?? 0, backoff(tries, deps.backoff))
      waits.push({ candidate, ms, bookable: false })
    }
    return null
  }

  const mayGoOn = () => tries < deps.maxAttempts && leftMs() > 0

  /** Asks one candidate, and again while its answer may be mended. `null`: the next candidate, please. */
  async function ask(candidate: Candidate, book: boolean): Promise<RunOutcome | null> {
    let outcome = await attempt(candidate, book)
    // A form of its own knows no conversation: a guard would judge our request for another answer, and find it safe.
    if (ownPromptTo(candidate)) return outcome
    while (!outcome && wrong && tries <= MOST_REPAIRS && mayGoOn()) {
      const { text, reason }: { text: string; reason: string } = wrong
      mending = null
      const asked = promptTo(candidate)
      if ('texts' in asked) break
      mending = repairing(asked, text, reason)
      outcome = await attempt(candidate, book)
    }
    mending = null
    return outcome
  }

  async function loop(): Promise<RunOutcome> {
    const uncalled = await beforeCalls(deps, task, kind)
    if (uncalled) {
      if (uncalled !== 'follows') await end(uncalled)
      return 'done'
    }
    const candidates = route(options, await deps.available(), {
      scores: deps.scores(),
      prompt: wordsOf(prompt),
      operation: kind.operation,
    }).filter(one => !task.dead_ends.includes(candidateKey(one)))
    for (const candidate of candidates) {
      if (!mayGoOn()) break
      // With nobody else to ask, a place is kept at once.
      const outcome = await ask(candidate, candidates.length === 1)
      if (outcome) return outcome
    }
    // All are busy: a place is kept where it is soonest.
    const soonest = waits.toSorted((a, b) => a.ms - b.ms)[0]
    if (candidates.length > 1 && soonest?.bookable && mayGoOn()) {
      waits.splice(waits.indexOf(soonest), 1)
      const outcome = await ask(soonest.candidate, true)
      if (outcome) return outcome
    }
    await unanswered(candidates)
    return 'done'
  }

  return {
    loop,
    after: () => after,
    giveUp,
    close() {
      clearTimeout(timer)
      held.remove(task)
    },
  }
}

type Outcome = {
  result: unknown
  source: Source
  quality: Quality
  provider: string
  model: string
  error: TaskError
  outputFiltered: Record<string, number> | null
}

type Usable = Extract<Verdict, { ok: true }>

const BUG = 'Something went wrong in the worker.'
const LATE = { code: 'aborted', message: 'The permit had expired before the call could be made; it was not made.' }

const WHY_STOPPED: Record<StopReason, string> = {
  lost: 'The task was cancelled or had ended.',
  deadline: 'The task’s deadline passed.',
  drain: 'The worker was stopping.',
  no_beat: 'The worker had lost its connection to the database.',
}

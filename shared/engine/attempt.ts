import type { BudgetRefusal, ClaimOutcome, Reservation } from '#shared/db/claims/admission.ts'
import type { RejectedAnswer, RunnableTask } from '#shared/db/tasks/load.ts'
import type { ErrorCode } from '#shared/errors.ts'
import type { Target } from '#shared/gate/target.ts'
import type { CheckTools, JobKind, ModelRequest } from '#shared/jobs/define.ts'
import { filtersOutput, type StoredOptions } from '#shared/jobs/options.ts'
import { vectorSize } from '#shared/jobs/prompt.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { CallAnswer, CallFailure, EmbedAnswer } from '#shared/providers/define.ts'
import { jobId } from '#shared/queue/names.ts'
import { type StreamEvent, textOfParts } from '#shared/requests/answer.ts'
import { clean } from '#shared/text.ts'
import type { Admission, Permit } from './admit.ts'
import type { AnswerMemory } from './answer-memory.ts'
import type { CallInput, CallResult } from './call.ts'
import type { CheckedAnswer, check } from './check.ts'
import type { StopReason } from './claim-registry.ts'
import type { ClaimSession } from './claim-session.ts'
import { gateOutcome } from './gate-outcome.ts'
import { contentionDelayMs } from './no-answer.ts'
import { affordable, halved, type OutputLimit } from './output-limit.ts'
import type { ProviderHealth } from './provider-health.ts'
import { type ReservationPrices, reservationFor } from './reservation.ts'
import type { StageTimer } from './stage-timer.ts'
import { logIds } from './task-log.ts'

export type AttemptDeps = {
  prices: ReservationPrices
  answerMemory: AnswerMemory
  admission: Pick<Admission, 'admit'>
  call(input: CallInput): Promise<CallResult>
  check: typeof check
  health: Pick<ProviderHealth, 'record'>
  metrics: Pick<Metrics, 'stageSeconds'>
  tools: CheckTools
  /** True once the process is stopping: nothing new is claimed. */
  draining(): boolean
  logger: Logger
}

export type AttemptRequest = {
  target: Target
  prompt: ModelRequest
  limit: OutputLimit
  /** If the target is busy, the gate may book a slot or queue the call. */
  book: boolean
}

/**
 * `answered`, `rejected` and `call_failed` made a call; the others did not, or stopped it.
 * `busy`: try again after `ms`. `bookable`: the gate would have booked a slot. `down`: the circuit breaker is open.
 * `too_large`: the call alone exceeds this rate limit. `lost`: the claim is gone. `draining`: the process is stopping.
 */
export type AttemptOutcome =
  | { kind: 'answered'; answer: CallAnswer | EmbedAnswer; checked: Extract<CheckedAnswer, { ok: true }> }
  | {
      kind: 'rejected'
      answer: RejectedAnswer
      /** Set if no other answer can pass: the error of the task. */
      fatal: ErrorCode | null
      /** The text to repair; null: a repair cannot help. */
      repairable: string | null
      truncated: boolean
    }
  /** `final`: the client has received a part of the answer, which no other answer can replace. */
  | { kind: 'call_failed'; failure: CallFailure; maxTokens: number; final: boolean }
  | { kind: 'busy'; ms: number; bookable: boolean; down: boolean }
  | { kind: 'too_large'; limit: string }
  | { kind: 'over_budget'; refusal: BudgetRefusal }
  | { kind: 'unpriced' }
  /** An image cannot be fetched. */
  | { kind: 'no_image'; param: string; message: string }
  | { kind: 'stopped'; reason: StopReason }
  | { kind: 'lost' }
  | { kind: 'draining' }

/** After a permit expired while the task was claimed: Postgres is slow, and gets time to recover. */
const LATE_PERMIT_MS = 500
/** Too short to queue for a concurrency slot: a line must not hold one up for tasks outside batches. */
const LINE_BOOK_MS = 150

/**
 * Returns the function that makes one attempt on one target: admit, claim, call, check. The session holds the settlement
 * of the attempt when it returns.
 */
export function createAttempt(
  deps: AttemptDeps,
  run: {
    task: RunnableTask
    kind: JobKind
    session: ClaimSession
    time: StageTimer
    onSlow: () => void
    onEvent?: ((event: StreamEvent) => void) | undefined
  },
): (request: AttemptRequest) => Promise<AttemptOutcome> {
  const { task, kind, session, time, onSlow, onEvent } = run
  const options = task.options as StoredOptions
  const reserve = ({ target, prompt }: AttemptRequest, { max }: OutputLimit) =>
    reservationFor(deps.prices, task, kind, target, prompt, max)

  type Admitted = { kind: 'admitted'; permit: Permit; reservation: Reservation; limit: OutputLimit }

  /** Gets a permit. Halves the output limit while the call exceeds a rate limit by itself. */
  async function admit(request: AttemptRequest): Promise<Admitted | AttemptOutcome> {
    const { target, book } = request
    for (let limit: OutputLimit = request.limit; ; ) {
      const reservation = reserve(request, limit)
      if (!reservation) return { kind: 'unpriced' }
      if (!session.claimed && deps.draining()) return { kind: 'draining' }
      const maxWaitMs = Math.max(0, Math.min(session.leftMs(), task.batch_id ? LINE_BOOK_MS : session.leftMs()))
      const result = await time('gate', () =>
        deps.admission.admit({
          id: task.id,
          target,
          inputTokens: reservation.inputTokens,
          outputTokens: reservation.outputTokens,
          maxWaitMs: book ? maxWaitMs : 0,
          lane: task.batch_id ? 'batch' : 'normal',
          // If it waits, it is under the next epoch.
          wake: `${task.queue} ${jobId({ id: task.id, epoch: task.epoch + 1 })}`,
        }),
      )
      if (result.kind === 'go') return { kind: 'admitted', permit: result.permit, reservation, limit }
      if (result.kind === 'closed') return busy(result.ms, result.bookable, result.down)
      if (result.kind === 'wait') {
        deps.metrics.stageSeconds.observe({ stage: 'gate', kind: kind.kind }, result.ms / 1000)
        return busy(result.ms)
      }
      const lower = halved(limit)
      if (!lower) return { kind: 'too_large', limit: result.limit }
      limit = lower
    }
  }

  /** Claims the task and reserves the call, with a lower output limit if a budget has no room for this one. */
  async function claim(
    request: AttemptRequest,
    { reservation, limit }: Admitted,
  ): Promise<{ outcome: ClaimOutcome; maxTokens: number }> {
    for (;;) {
      const begun = reservation
      const outcome = await time('claim', () => session.begin(begun))
      const lower =
        outcome.kind === 'refused'
          ? affordable(deps, { ...request, inputTokens: reservation.inputTokens }, limit, outcome.by)
          : null
      const smaller = lower && reserve(request, lower)
      if (!lower || !smaller) return { outcome, maxTokens: limit.max }
      limit = lower
      reservation = smaller
    }
  }

  async function call({ target, prompt }: AttemptRequest, maxTokens: number, permit: Permit): Promise<AttemptOutcome> {
    const startedAt = performance.now()
    let wasSlow = false
    const called = await deps
      .call({
        task,
        kind,
        prompt,
        target,
        attempt: session.attempt,
        maxTokens,
        signal: session.signal,
        leftMs: session.leftMs(),
        slowAfterMs: permit.slowAfterMs,
        onEvent,
        slow() {
          wasSlow = true
          permit.slow()
          onSlow()
        },
      })
      .catch(error => {
        permit.report({ result: 'neutral', latencyMs: 0, inputTokens: null, outputTokens: null, retryAfterMs: null })
        throw error
      })
    // A deadline that left the provider no time says nothing about the provider.
    const hurried = called.kind === 'failure' && called.hurried && !wasSlow
    if (!hurried) deps.health.record(target.provider, called)
    permit.report(gateOutcome(called, performance.now() - startedAt, hurried || session.signal.aborted))
    return called.kind === 'answer'
      ? await checkAnswer(target, maxTokens, called.answer)
      : failed(target, maxTokens, called)
  }

  async function checkAnswer(
    target: Target,
    maxTokens: number,
    answer: CallAnswer | EmbedAnswer,
  ): Promise<AttemptOutcome> {
    const checked = await time('check', () =>
      deps.check(
        kind,
        {
          input: task.input,
          model: target.model,
          filter: filtersOutput(kind, options),
          tools: deps.tools,
          keepsRefusals: options.refusals === 'result',
        },
        answer,
      ),
    )
    const text = 'parts' in answer ? textOfParts(answer.parts) : null
    const finishReason = 'parts' in answer ? answer.finishReason : null
    if (checked.ok) {
      session.settle({ outcome: 'succeeded', usage: answer.usage, finishReason })
      return { kind: 'answered', answer, checked }
    }
    const { reason, fatal = null, again, cut = false } = checked
    const error = { code: fatal ?? 'rejected', message: reason }
    session.fail({ outcome: 'rejected', usage: answer.usage, error, finishReason })
    const rejected = { ...target, reason, finishReason, maxTokens }
    return {
      kind: 'rejected',
      answer: rejected,
      fatal,
      repairable: again && text !== null ? clean(text) : null,
      truncated: cut,
    }
  }

  function failed(target: Target, maxTokens: number, called: Extract<CallResult, { kind: 'failure' }>): AttemptOutcome {
    const { failure } = called
    const { usage, sent, begun } = failure
    if (session.signal.aborted) {
      const reason = session.signal.reason as StopReason
      session.settle({ outcome: 'aborted', usage, error: { code: 'aborted', message: STOPPED[reason] }, billed: sent })
      return { kind: 'stopped', reason }
    }
    const details = { ...logIds(task), ...target, outcome: failure.kind, status: failure.status }
    if (isBug(failure.cause)) deps.logger.error({ ...details, err: failure.cause }, 'a provider adapter has a bug')
    else deps.logger.debug(details, 'provider call failed')
    const error = { code: failure.kind, message: failure.message }
    session.fail({ outcome: failure.kind, usage, error, billed: sent, begun })
    return {
      kind: 'call_failed',
      failure,
      maxTokens,
      final: called.streamed === true && (onEvent !== undefined || options.streams === 'events'),
    }
  }

  async function attempt(request: AttemptRequest): Promise<AttemptOutcome> {
    const admitted = await admit(request)
    if (admitted.kind !== 'admitted') return admitted
    const { permit } = admitted
    const { outcome, maxTokens } = await claim(request, admitted).catch(error => {
      permit.release()
      throw error
    })
    if (outcome.kind !== 'claimed') {
      permit.release()
      return outcome.kind === 'lost' ? outcome : { kind: 'over_budget', refusal: outcome.by }
    }
    if (!permit.start()) {
      permit.release()
      session.settle({ outcome: 'aborted', usage: null, error: LATE, billed: false })
      return busy(LATE_PERMIT_MS * (1 + Math.random()))
    }
    return await call(request, maxTokens, permit)
  }

  return async request => {
    const release = deps.answerMemory.reserve(vectorSize(request.prompt))
    if (!release) return busy(contentionDelayMs(task))
    try {
      return await attempt(request)
    } finally {
      release()
    }
  }
}

const busy = (ms: number, bookable = false, down = false): AttemptOutcome => ({ kind: 'busy', ms, bookable, down })

/**
 * Adapters turn every error into a CallFailure. These errors are bugs of ours; other TypeErrors may come from a malformed
 * answer.
 */
const isBug = (cause: unknown): boolean =>
  cause instanceof ReferenceError ||
  (cause instanceof TypeError && /is not a (function|constructor)$/.test(cause.message))

const LATE = { code: 'aborted', message: 'The permit had expired before the call could be made; it was not made.' }

const STOPPED: Record<StopReason, string> = {
  lost: 'The task was cancelled or had ended.',
  deadline: 'The task’s deadline passed.',
  drain: 'The worker was stopping.',
  no_beat: 'The worker had lost its connection to the database.',
  disconnected: 'The client had closed the connection.',
}

import { backoff } from '#shared/concurrency/backoff.ts'
import type { RejectedAnswer, RunnableTask } from '#shared/db/tasks/load.ts'
import { type Target, targetName } from '#shared/gate/target.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import type { AttemptOutcome } from './attempt.ts'
import type { Conclusion } from './conclude.ts'
import { type BusyTarget, CONTEXT_REMEDY, type Obstacles } from './no-answer.ts'
import { mayRaiseLimit, repeatsFailure, truncatedAnswers, truncationError } from './rejections.ts'

/** Results of the attempts of this run and of earlier runs that affect the next attempt. */
export type Progress = Obstacles & {
  /** Answers that failed their check, oldest first. */
  rejected: readonly RejectedAnswer[]
  /** By `targetName`: the highest output limit to request, after the target refused a higher one. */
  ceilings: ReadonlyMap<string, number>
}

/**
 * The step after an attempt. `adjust_limit`: the same target again, with another output limit. `repair`: the same target
 * again, with the answer and the reason why it failed its check.
 */
export type Step =
  | { kind: 'next_target' }
  | { kind: 'adjust_limit' }
  | { kind: 'repair'; answer: string; reason: string }
  | { kind: 'conclude'; conclusion: Conclusion }

export type AttemptContext = {
  kind: Pick<JobKind, 'maxTokens'>
  options: StoredOptions
  failedAttempts: number
  backoff: { baseMs: number; maxMs: number }
}

type Next = { progress: Progress; step: Step }

export function initialProgress({ rejected, options }: RunnableTask): Progress {
  const last = truncatedAnswers(rejected).at(-1)
  const limited = (options as StoredOptions).max_tokens !== undefined
  const failed = last ? truncationError(last, limited) : null
  return { waits: [], refusals: [], unpriced: null, failed, rejected, ceilings: new Map() }
}

/** The rules of failover, repair and retry. Pure, except for the jitter of the backoff. */
export function afterAttempt(
  context: AttemptContext,
  progress: Progress,
  target: Target,
  outcome: AttemptOutcome,
): Next {
  const nextTarget = (change: Partial<Progress> = {}): Next => ({
    progress: { ...progress, ...change },
    step: { kind: 'next_target' },
  })
  const conclude = (conclusion: Conclusion): Next => ({ progress, step: { kind: 'conclude', conclusion } })
  switch (outcome.kind) {
    case 'answered':
      return conclude({ kind: 'succeed', target, answer: outcome.answer, checked: outcome.checked })
    case 'rejected':
      return afterRejection(context, progress, target, outcome)
    case 'call_failed':
      return afterFailure(context, progress, target, outcome)
    case 'busy': {
      const { ms, bookable, down } = outcome
      return nextTarget({ waits: [...progress.waits, { target, ms, bookable, down }] })
    }
    case 'too_large': {
      const message = `${target.provider}: the limit (${outcome.limit}) is 0, or less than this task alone may need.`
      return nextTarget({ failed: { code: 'provider_failed', message } })
    }
    case 'over_budget':
      return nextTarget({ refusals: [...progress.refusals, outcome.refusal] })
    case 'no_image': {
      const { message, param } = outcome
      return nextTarget({ failed: { code: 'image_unreachable', message, context: { param } } })
    }
    case 'unpriced':
      return nextTarget({ unpriced: target })
    case 'stopped':
      // If the claim is gone, the requeue settles the attempt and changes nothing else.
      if (outcome.reason === 'deadline') return conclude({ kind: 'expire', failed: progress.failed })
      return conclude(outcome.reason === 'disconnected' ? { kind: 'cancel' } : { kind: 'requeue', delayMs: 0 })
    case 'lost':
      return conclude({ kind: 'leave' })
    case 'draining':
      return conclude({ kind: 'give_back' })
  }
}

function afterRejection(
  { options }: AttemptContext,
  progress: Progress,
  target: Target,
  { answer, fatal, repairable, truncated }: Extract<AttemptOutcome, { kind: 'rejected' }>,
): Next {
  const { reason, finishReason } = answer
  if (fatal) {
    // A refusal is the model's answer. The task may fall back, but pays for no other call.
    const conclusion: Conclusion = { kind: 'fail', error: { code: fatal, message: reason }, finishReason }
    const mayFallBack = fatal === 'model_refused'
    return { progress, step: { kind: 'conclude', conclusion: { ...conclusion, mayFallBack } } }
  }
  const rejected = [...progress.rejected, answer]
  if (truncated) {
    // No other target is tried: its answer would be cut off too, and cost as much.
    const failed = truncationError(answer, options.max_tokens !== undefined)
    const step: Step = { kind: mayRaiseLimit(rejected, target) ? 'adjust_limit' : 'next_target' }
    return { progress: { ...progress, rejected, failed, waits: [] }, step }
  }
  const failed = { code: 'invalid_output', message: reason } as const
  if (repeatsFailure(rejected, target)) {
    const waits = progress.waits.filter(one => targetName(one.target) !== targetName(target))
    return { progress: { ...progress, rejected, failed, waits }, step: { kind: 'next_target' } }
  }
  const waits = [...progress.waits, waitFor(target, 0)]
  const step: Step = repairable === null ? { kind: 'next_target' } : { kind: 'repair', answer: repairable, reason }
  return { progress: { ...progress, rejected, failed, waits }, step }
}

function afterFailure(
  context: AttemptContext,
  progress: Progress,
  target: Target,
  outcome: Extract<AttemptOutcome, { kind: 'call_failed' }>,
): Next {
  const { failure } = outcome
  const exceeded = failure.kind === 'context_exceeded'
  const failed = {
    code: exceeded ? 'context_exceeded' : failure.kind === 'unsupported' ? 'unsupported_parameter' : 'provider_failed',
    message: `${target.provider}: ${failure.message}${exceeded ? CONTEXT_REMEDY : ''}`,
  } as const
  if (outcome.final) return { progress, step: { kind: 'conclude', conclusion: { kind: 'fail', error: failed } } }
  const learned = { ...progress, failed }
  if (refusedLimit(context, outcome)) {
    const ceilings = new Map(progress.ceilings).set(targetName(target), context.kind.maxTokens)
    return { progress: { ...learned, ceilings }, step: { kind: 'adjust_limit' } }
  }
  if (failure.scope === 'task') {
    const error = { code: 'provider_rejected', message: failed.message } as const
    return { progress: learned, step: { kind: 'conclude', conclusion: { kind: 'fail', error } } }
  }
  if (failure.scope === 'provider') return { progress: learned, step: { kind: 'next_target' } }
  // A Retry-After of 0 or in the past must not use up all attempts at once.
  const ms = Math.max(failure.retryAfterMs ?? 0, backoff(context.failedAttempts, context.backoff))
  return { progress: { ...learned, waits: [...progress.waits, waitFor(target, ms)] }, step: { kind: 'next_target' } }
}

const waitFor = (target: Target, ms: number): BusyTarget => ({ target, ms, bookable: false })

/** The target takes fewer output tokens than our catalogue says. The limit was ours, not the client's. */
const refusedLimit = (
  { kind, options }: AttemptContext,
  { failure, maxTokens }: Extract<AttemptOutcome, { kind: 'call_failed' }>,
): boolean =>
  failure.kind === 'invalid_request' &&
  options.max_tokens === undefined &&
  maxTokens > kind.maxTokens &&
  /max_(completion_|output_)?tokens|maximum context length/i.test(failure.message)

import { BREAKER } from '#shared/gate/outcomes.ts'
import type { LimitName } from '#shared/gate/types.ts'

/** One model of one provider: what it allows, and what became of the latest calls. */
export type TargetLoad = {
  /** Per minute, and (concurrency) at once; null: unlimited. */
  limits: Record<LimitName, number | null>
  /** Calls that were looked at, and that were answered, within `spanSeconds`. */
  calls: number
  answered: number
  /** Those among them that broke since it last answered: it is down, and its breaker lets through one call now and then. */
  brokenSince: number
  spanSeconds: number
  /** Means of those that were answered; null: none was. */
  callSeconds: number | null
  inputTokens: number | null
  outputTokens: number | null
}

/** Above what rates allow on average: calls differ in length. */
const SPREAD = 1.25
/** Fewer calls prove nothing. */
const FEW = 20
/** Slots that go on trying where no call comes through, or hardly any. */
const PROBES = 2
/** While half of the calls fail, this much more than those that come through. */
const RECOVERY = 1.5
/** Before any call was answered. */
const GUESS_SECONDS = 2

/**
 * How many slots can be of use, over all targets; null: some target has no limit that is known. By Little's law a rate of calls
 * occupies rate x duration slots. One that refuses or fails most calls (a storm of 429s, an outage) is worth what it lets
 * through, with room to notice that it is back.
 */
export function usableSlots(targets: TargetLoad[]): number | null {
  if (targets.length === 0) return null
  const sum = targets.reduce((sum, target) => sum + usableOf(target), 0)
  return Number.isFinite(sum) ? sum : null
}

function usableOf(target: TargetLoad): number {
  const { limits, calls, answered, spanSeconds } = target
  const seconds = target.callSeconds ?? GUESS_SECONDS
  const input = target.inputTokens
  const output = target.outputTokens
  const both = input === null || output === null ? null : input + output
  const slotsFor = (limit: number | null, each: number | null) =>
    limit === null || (each === null && limit > 0)
      ? Number.POSITIVE_INFINITY
      : (limit / 60 / Math.max(1, each ?? 1)) * seconds * SPREAD
  const allowed = Math.min(
    limits.concurrency ?? Number.POSITIVE_INFINITY,
    slotsFor(limits.rpm, 1),
    slotsFor(limits.tpm, both),
    slotsFor(limits.itpm, input),
    slotsFor(limits.otpm, output),
  )
  // Where calls end by time-out only, there is one in a minute or two.
  if (target.brokenSince >= (answered === 0 ? 1 : BREAKER.FAILURES_IN_A_ROW)) return Math.min(allowed, PROBES)
  const failing = calls >= FEW && answered < calls / 2
  const through = (answered / Math.max(1, spanSeconds)) * seconds * RECOVERY + PROBES
  return failing ? Math.min(allowed, through) : allowed
}

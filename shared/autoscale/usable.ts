import { BREAKER } from '#shared/gate/outcomes.ts'
import type { LimitName } from '#shared/gate/types.ts'

/** One target: its limits, and the outcomes of its latest calls. */
export type TargetLoad = {
  /** Per minute, and (concurrency) at once; null: unlimited. */
  limits: Record<LimitName, number | null>
  /** All calls, and the answered ones, within `spanSeconds`. */
  calls: number
  answered: number
  /** Calls that broke since the last answer: the target is down, and its breaker admits one call now and then. */
  brokenSince: number
  spanSeconds: number
  /** Means of the answered calls; null: there are none. */
  callSeconds: number | null
  inputTokens: number | null
  outputTokens: number | null
}

/** Slots relative to the average use of a rate, because calls differ in length. */
const SPREAD = 1.25
/** With fewer calls, the share of failures is not meaningful. */
const MIN_CALLS = 20
/** Slots that keep trying a target that answers hardly any call. */
const PROBES = 2
/** While more than half of the calls fail: slots relative to the successful calls. */
const RECOVERY = 1.5
/** Duration of a call before any was answered. */
const DEFAULT_CALL_SECONDS = 2

/**
 * The slots that all targets together can use; null: a target has no known limit. By Little's law, calls occupy rate x
 * duration slots. A target that refuses or fails most calls (a storm of 429s, an outage) counts by the calls that it
 * answers, with room to notice its recovery.
 */
export function usableSlots(targets: TargetLoad[]): number | null {
  if (targets.length === 0) return null
  const sum = targets.reduce((sum, target) => sum + usableOf(target), 0)
  return Number.isFinite(sum) ? sum : null
}

function usableOf(target: TargetLoad): number {
  const { limits, calls, answered, spanSeconds } = target
  const seconds = target.callSeconds ?? DEFAULT_CALL_SECONDS
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
  // If calls end only by timeout, there is one in a minute or two.
  if (target.brokenSince >= (answered === 0 ? 1 : BREAKER.FAILURES_IN_A_ROW)) return Math.min(allowed, PROBES)
  const failing = calls >= MIN_CALLS && answered < calls / 2
  const through = (answered / Math.max(1, spanSeconds)) * seconds * RECOVERY + PROBES
  return failing ? Math.min(allowed, through) : allowed
}

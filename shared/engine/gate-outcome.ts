import type { CallOutcome } from '#shared/gate/types.ts'
import type { CallFailure } from '#shared/providers/define.ts'
import { gateResult } from './admit.ts'
import type { CallResult } from './call.ts'

/** The gate's pause after a rate limit error without a usable Retry-After. */
const RATE_PAUSE_MS = 1000

/** What the gate learns from a call. @param neutral the outcome says nothing about the target */
export function gateOutcome(called: CallResult, latencyMs: number, neutral: boolean): CallOutcome {
  const failure = called.kind === 'failure' ? called.failure : null
  const { usage, limits } = called.kind === 'answer' ? called.answer : called.failure
  return {
    result: failure ? gateResult(neutral ? 'aborted' : failure.kind) : 'success',
    latencyMs,
    inputTokens: usage?.inputTokens ?? null,
    outputTokens: usage?.outputTokens ?? null,
    retryAfterMs: failure && pauseMs(failure),
    ...(limits && { headers: limits }),
  }
}

/** For how long a failure pauses the target for every caller; null or 0: it does not. */
function pauseMs({ kind, retryAfterMs }: CallFailure): number | null {
  if (kind === 'rate_limited') return retryAfterMs || RATE_PAUSE_MS
  return kind === 'overloaded' ? retryAfterMs || null : null
}

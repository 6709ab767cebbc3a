/**
 * Outcomes that say nothing about the provider's health: a rate limit error, an invalid request, an unknown model name (the
 * gate may count it with a known model), a call that this process stopped. All other failures count against the provider.
 */
export const NEUTRAL_OUTCOMES = [
  'rate_limited',
  'invalid_request',
  'context_exceeded',
  'unknown_model',
  'unsupported',
  'aborted',
] as const

/** Constants of the circuit breaker, for the gate's script and for the code that predicts its behaviour. */
export const BREAKER = {
  /** How long an open breaker admits no call; then it admits one at a time. */
  OPEN_MS: 30_000,
  /** The breaker opens after this many. */
  FAILURES_IN_A_ROW: 3,
  /** This many answered probes close it. */
  PROBE_SUCCESSES: 2,
} as const

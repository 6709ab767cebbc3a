/**
 * Outcomes of a call that say nothing of the provider's health: a refusal for the rate, a request that it cannot understand, a
 * name that it does not know (the gate may count it with a model that it does), a call that was stopped from here. All other
 * failures count against it.
 */
export const NEUTRAL_OUTCOMES = ['rate_limited', 'invalid_request', 'unknown_model', 'aborted'] as const

/** The breaker's, for its script and for whoever foresees what it does. */
export const BREAKER = {
  /** So long it lets nothing through, and then one call at a time. */
  OPEN_MS: 30_000,
  /** A target is taken for down after so many. */
  FAILURES_IN_A_ROW: 3,
  /** So many calls let through that are answered close it. */
  PROBE_SUCCESSES: 2,
} as const

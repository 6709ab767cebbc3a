/**
 * Outcomes of a call that say nothing of the provider's health: a refusal for the rate, a request that it cannot understand, a
 * name that it does not know (the gate may count it with a model that it does), a call that was stopped from here. All other
 * failures count against it.
 */
export const NEUTRAL_OUTCOMES = ['rate_limited', 'invalid_request', 'unknown_model', 'aborted'] as const

/** A target is taken for down after so many failures in a row. As in breaker.lua. */
export const FAILURES_IN_A_ROW = 3

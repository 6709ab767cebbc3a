/** What has limits of its own: one model of one provider, by the one name that `targetOf` gives it. */
export type Target = { provider: string; model: string }

/**
 * Of one target, per minute and (concurrency) at once; tpm counts input and output. null: unlimited; 0: nothing passes.
 * The gate keeps the newest version that it has seen.
 */
export type GateLimits = {
  version: number
  rpm: number | null
  tpm: number | null
  itpm: number | null
  otpm: number | null
  concurrency: number | null
}
export type LimitName = 'rpm' | 'tpm' | 'itpm' | 'otpm' | 'concurrency'

/** `model` is any of the model's names. */
export type AcquireRequest = Target & {
  /** Of the task; the same id redeems its own booking. */
  id: string
  /** Upper bounds. */
  inputTokens: number
  outputTokens: number
  /** A slot later than this is not booked. */
  maxWaitMs: number
  /** `batch` books at most a second ahead, so that it is never in the way of a `normal` one. */
  lane: 'normal' | 'batch'
  /** Handed back by the report that frees a slot for this request. */
  wake: string
}

/** Leave to make one call. Opaque but for what is documented. */
export type Permit = {
  target: Target
  id: string
  lease: string
  /** The call must have started (and be in the ledger) so many ms after the permit was handed out, or be released. */
  validForMs: number
  /** The same on the gate's monotonic clock (performance.now()). */
  validUntil: number
  /** A call that runs longer is to be told by `slow`. */
  slowAfterMs: number
  /** What was booked, in which sub-window of which generation of the state. */
  booked: { inputTokens: number; outputTokens: number; sub: number; generation: string; epoch: number }
}

/**
 * `go`: call now. `wait`: booked or in line, come back after `ms`. `closed`: nothing is held, worth asking again after
 * `ms`. `never`: the request alone exceeds this limit.
 */
export type Decision =
  | { kind: 'go'; permit: Permit }
  | { kind: 'wait'; ms: number; reason: 'rate' | 'concurrency' }
  | { kind: 'closed'; ms: number; reason: 'breaker' | 'pause' | 'late' | 'batch' }
  | { kind: 'never'; limit: LimitName }

/** What a provider's headers say of one limit. `resetMs`: until the whole limit is back; null: unknown. */
export type HeaderLimit = { limit: number | null; remaining: number | null; resetMs: number | null }
export type HeaderLimits = {
  requests?: HeaderLimit
  tokens?: HeaderLimit
  inputTokens?: HeaderLimit
  outputTokens?: HeaderLimit
}

export type CallOutcome = {
  /** `neutral` says nothing of the provider: the caller aborted, or the task was to blame. */
  result: 'success' | 'failure' | 'neutral'
  latencyMs: number
  /** Real usage; null: the estimate stands. */
  inputTokens: number | null
  outputTokens: number | null
  /** Pauses the whole target, for an hour at most; of several pauses the one that ends last holds. */
  retryAfterMs: number | null
  headers?: HeaderLimits
}

export type Usage = { used: number; limit: number | null }
export type TargetState = {
  target: Target
  /** false: Redis knows nothing of it (never used, idle for a day, one of too many, or forgotten). */
  seeded: boolean
  breaker: 'closed' | 'open' | 'half_open'
  /** Until the breaker lets a probe through; 0 unless it is open. */
  retryMs: number
  pauseMs: number
  /** Exponentially weighted, of the last results. */
  successRate: number
  /** In [0, 1]: falls with failures, comes back to 1 within minutes. */
  health: number
  /** Exponentially weighted; null: no call yet. */
  latencyMs: number | null
  p95Ms: number | null
  rpm: Usage
  tpm: Usage
  itpm: Usage
  otpm: Usage
  concurrency: Usage
  /** In line for a concurrency slot. */
  waiters: number
  /** Waiting for a slot in the window. */
  bookings: number
}

/** The ledger's view of a target. `firstEver`: it was never called, so that there is nothing to wait for. */
export type SeedData = {
  firstEver: boolean
  /** Calls that started in the last 65 s. */
  calls: { ageMs: number; inputTokens: number; outputTokens: number }[]
  /** Calls that are still running, by task. */
  open: { id: string }[]
}

/** Redis (or, for an unseeded target, the ledger) could not be asked. Nothing is known of what was done. */
export class GateUnavailable extends Error {
  override name = 'GateUnavailable'
}

import type { Target } from './target.ts'

/**
 * Limits of one target, per minute or (concurrency) at a time; tpm counts input and output. null: unlimited; 0: no call.
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
  /** The id of the task. It redeems its own booking. */
  id: string
  /** Upper bounds. */
  inputTokens: number
  outputTokens: number
  /** Book no later slot. */
  maxWaitMs: number
  /** `batch` books at most a second ahead, so that it never delays a `normal` request. */
  lane: 'normal' | 'batch'
  /** Returned by the report that frees a slot for this request. */
  wake: string
}

/** Permission to make one call. Fields without a comment are opaque. */
export type GatePermit = {
  target: Target
  id: string
  lease: string
  /** The call must have started, and be in the ledger, within this time; otherwise release the permit. */
  validForMs: number
  /** The same on the gate's monotonic clock (performance.now()). */
  validUntil: number
  /** Call `slow` if the call still runs after this time. */
  slowAfterMs: number
  /** The booked tokens, and the sub-window and generation of the state that counts them. */
  booked: { inputTokens: number; outputTokens: number; sub: number; generation: string; epoch: number }
}

/**
 * `go`: call now. `wait`: booked or queued, retry after `ms`. `closed`: nothing is held, retry after `ms`. `never`: the
 * request alone exceeds this limit.
 */
export type Decision =
  | { kind: 'go'; permit: GatePermit }
  | { kind: 'wait'; ms: number; reason: 'rate' | 'concurrency' }
  | { kind: 'closed'; ms: number; reason: 'breaker' | 'pause' | 'late' | 'batch' }
  | { kind: 'never'; limit: LimitName }

/** One limit according to the provider's headers. `resetMs`: until the whole limit is available again; null: unknown. */
export type HeaderLimit = { limit: number | null; remaining: number | null; resetMs: number | null }
export type HeaderLimits = {
  requests?: HeaderLimit
  tokens?: HeaderLimit
  inputTokens?: HeaderLimit
  outputTokens?: HeaderLimit
}

export type CallOutcome = {
  /** `neutral` says nothing about the provider: the caller aborted, or the task was at fault. */
  result: 'success' | 'failure' | 'neutral'
  latencyMs: number
  /** Real usage; null: the estimate stands. */
  inputTokens: number | null
  outputTokens: number | null
  /** Pauses the whole target, for an hour at most. Of several pauses, the one that ends last applies. */
  retryAfterMs: number | null
  headers?: HeaderLimits
}

export type Usage = { used: number; limit: number | null }
export type TargetState = {
  target: Target
  /** false: Redis has no state of it: never used, idle for a day, beyond `MAX_TARGETS`, or lost. */
  seeded: boolean
  breaker: 'closed' | 'open' | 'half_open'
  /** Until the breaker lets a probe through; 0 unless it is open. */
  retryMs: number
  pauseMs: number
  /** Exponentially weighted, of the last results. */
  successRate: number
  /** In [0, 1]: falls with failures, returns to 1 within minutes. */
  health: number
  /** Exponentially weighted; null: no call yet. */
  latencyMs: number | null
  p95Ms: number | null
  rpm: Usage
  tpm: Usage
  itpm: Usage
  otpm: Usage
  concurrency: Usage
  /** Queued for a concurrency slot. */
  waiters: number
  /** Booked in the window. */
  bookings: number
}

/** The ledger's view of a target. `firstEver`: it was never called, so that no lost permit can exist. */
export type SeedData = {
  firstEver: boolean
  /** Calls that started in the last 65 s. */
  calls: { ageMs: number; inputTokens: number; outputTokens: number }[]
  /** Calls that are still running, by task. */
  open: { id: string }[]
}

/** Redis, or the ledger of an unseeded target, is unavailable. Whether the operation took effect is unknown. */
export class GateUnavailable extends Error {
  override name = 'GateUnavailable'
}

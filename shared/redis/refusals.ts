/**
 * READONLY, UNBLOCKED: a primary became a replica. MASTERDOWN, LOADING: a replica has no data yet. NOREPLICAS: the replicas of a
 * primary are gone and may have replaced it. Redis 6 quotes the error of a script inside another error.
 */
const NOT_PRIMARY = /^(READONLY|UNBLOCKED|MASTERDOWN|LOADING|NOREPLICAS)\b|-(READONLY|MASTERDOWN|NOREPLICAS) /

/** Whether the error shows that another server is, or will be, the primary. */
export const isNotPrimary = (error: Error): boolean => NOT_PRIMARY.test(error.message)

/** Refusals within this time belong to one failover. */
const SAME_FAILOVER_MS = 60_000
/** Refusals within this time are of commands that were sent together, and count as one. */
const TOGETHER_MS = 50
const STEP_MS = 100
const MAX_PAUSE_MS = 2000

/**
 * Limits how often a connection is reopened because the server refuses writes: the address may lead to the replica for as long
 * as a failover takes.
 */
export function createRefusals(now = () => performance.now()) {
  let lastAt = Number.NEGATIVE_INFINITY
  let inRow = 0
  return {
    /** `first`: of a failover. `together`: with a refusal that was noted. null: the error has another cause. */
    note(error: Error): 'first' | 'again' | 'together' | null {
      if (!isNotPrimary(error)) return null
      const sinceMs = now() - lastAt
      lastAt = now()
      if (sinceMs < TOGETHER_MS) return 'together'
      inRow = sinceMs < SAME_FAILOVER_MS ? inRow + 1 : 1
      return inRow === 1 ? 'first' : 'again'
    },
    /** Milliseconds to wait before reconnecting. 0: no recent refusal. */
    pauseMs: (): number =>
      now() - lastAt > MAX_PAUSE_MS + SAME_FAILOVER_MS ? 0 : Math.min(inRow * STEP_MS, MAX_PAUSE_MS),
  }
}

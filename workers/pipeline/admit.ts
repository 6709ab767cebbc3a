import type { Candidate } from '#shared/routing.ts'

/** `go`: call now; `closed`: not before `ms` milliseconds have passed. */
export type Admission = { kind: 'go' } | { kind: 'closed'; ms: number }

export type Admit = {
  admit(candidate: Candidate): Admission
  /** What the provider's Retry-After asked for. */
  pause(candidate: Candidate, ms: number): void
}

const keyOf = ({ provider, model }: Candidate) => `${provider}/${model}`

/**
 * Admission to a provider's model. Grants everything but what this process knows to be paused by a Retry-After; the
 * fleet-wide gate takes this place.
 */
export function createAdmission(now: () => number = () => performance.now()): Admit {
  const pausedUntil = new Map<string, number>()
  return {
    admit(candidate) {
      const key = keyOf(candidate)
      const until = pausedUntil.get(key)
      if (until === undefined) return { kind: 'go' }
      const ms = until - now()
      if (ms > 0) return { kind: 'closed', ms }
      pausedUntil.delete(key)
      return { kind: 'go' }
    },
    pause(candidate, ms) {
      const key = keyOf(candidate)
      // Clients name models: what has passed must not pile up.
      if (pausedUntil.size > 1000) for (const [old, until] of pausedUntil) if (until <= now()) pausedUntil.delete(old)
      pausedUntil.set(key, Math.max(pausedUntil.get(key) ?? 0, now() + ms))
    },
  }
}

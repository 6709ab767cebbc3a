import {
  type ClaimOutcome,
  type ClaimRequest,
  createClaimer,
  createNextAttempt,
  type NextRequest,
} from '#shared/db/claims.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import type { Held } from '#workers/held.ts'

export type Claims = {
  /** queued -> running, with the reservation in every budget and the `started` attempt. */
  claim(request: ClaimRequest, controller: AbortController): Promise<ClaimOutcome>
  /** The next attempt under the same claim. */
  next(request: NextRequest): Promise<ClaimOutcome>
}

/** @param whenFit resolves once this process has beaten lately: what is begun after a beat failed may be taken over and repeated */
export function createClaims(db: Db, workerId: string, held: Held, whenFit: () => Promise<void>): Claims {
  const claim = createClaimer(db, workerId)
  const next = createNextAttempt(db, workerId)
  return {
    async claim(request, controller) {
      await whenFit()
      const outcome = await persist(() => claim(request))
      if (outcome.kind !== 'claimed') return outcome
      // Held only once it is ours, since a beat reports every held claim that Postgres does not show as ours.
      held.add({ id: request.id, epoch: request.epoch, controller })
      await whenFit()
      return outcome
    },
    next: request => persist(() => next(request)),
  }
}

import {
  abandonAttempt,
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
export function createClaims(db: Db, workerId: string, held: Held, whenFit: () => Promise<void>, lingerMs = 0): Claims {
  const claim = createClaimer(db, workerId, lingerMs)
  const next = createNextAttempt(db, workerId)
  /**
   * A statement whose answer was lost may still be at work, and the one that repeats it then waits for its reservation and
   * counts it as somebody else's. Once refused that way the first has ended: asked again, it is found. Unless the task has
   * ended between the two: then what the first has reserved is nobody's.
   */
  async function surely<Request extends ClaimRequest>(
    request: Request,
    claim: (request: Request) => Promise<ClaimOutcome>,
  ): Promise<ClaimOutcome> {
    let asked = 0
    const again = () => {
      asked++
      return claim(request)
    }
    let outcome = await persist(again)
    if (outcome.kind === 'refused' && asked > 1) outcome = await persist(again)
    if (outcome.kind === 'lost' && asked > 1) await persist(() => abandonAttempt(db, workerId, request))
    return outcome
  }
  return {
    async claim(request, controller) {
      await whenFit()
      const outcome = await surely(request, claim)
      if (outcome.kind !== 'claimed') return outcome
      // Held only once it is ours, since a beat reports every held claim that Postgres does not show as ours.
      held.add({ id: request.id, epoch: request.epoch, controller })
      await whenFit()
      return outcome
    },
    next: request => surely(request, next),
  }
}

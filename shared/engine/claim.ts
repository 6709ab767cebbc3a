import { abandonAttempt } from '#shared/db/claims/abandon.ts'
import type { ClaimOutcome, ClaimRequest } from '#shared/db/claims/admission.ts'
import { createClaimer } from '#shared/db/claims/claim.ts'
import { createNewClaimer } from '#shared/db/claims/claim-new.ts'
import { createNextAttempt, type NextRequest } from '#shared/db/claims/next-attempt.ts'
import type { Db } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import { type NewTask, serializeTask } from '#shared/db/tasks/new-task.ts'
import type { ClaimRegistry } from './claim-registry.ts'

export type ClaimStage = {
  /** queued -> running, with the reservation in every budget and the `started` attempt. */
  claim(request: ClaimRequest, controller: AbortController): Promise<ClaimOutcome>
  /**
   * Inserts a task that is not stored yet, with its first claim, reservation and `started` attempt.
   * @throws DatabaseUnavailable: the task may have been stored, and no call may be made
   */
  claimNew(request: ClaimRequest, task: NewTask, controller: AbortController): Promise<ClaimOutcome>
  /** The next attempt under the same claim. */
  next(request: NextRequest): Promise<ClaimOutcome>
}

/**
 * @param untilHealthy resolves once the last heartbeat is recent: an attempt begun after a failed one may be taken over
 * and repeated
 */
export function createClaimStage(
  db: Db,
  workerId: string,
  claimRegistry: ClaimRegistry,
  untilHealthy: () => Promise<void>,
  lingerMs = 0,
): ClaimStage {
  const claim = createClaimer(db, workerId, lingerMs)
  const claimNew = createNewClaimer(db, workerId)
  const next = createNextAttempt(db, workerId)
  /**
   * Repeats a statement whose answer was lost. The first one may still run: the second then waits for its budget locks and
   * counts its reservation as another task's. A refusal proves that the first has ended, so a third finds the claim. If
   * the task has ended in between, the reservation of the first belongs to no claim and is released.
   */
  async function retryUncertain<Request extends ClaimRequest>(
    request: Request,
    claim: (request: Request) => Promise<ClaimOutcome>,
  ): Promise<ClaimOutcome> {
    let runs = 0
    const again = () => {
      runs++
      return claim(request)
    }
    let outcome = await retryUnavailable(again)
    if (outcome.kind === 'refused' && runs > 1) outcome = await retryUnavailable(again)
    if (outcome.kind === 'lost' && runs > 1) await retryUnavailable(() => abandonAttempt(db, workerId, request))
    return outcome
  }
  return {
    async claim(request, controller) {
      await untilHealthy()
      const outcome = await retryUncertain(request, claim)
      if (outcome.kind !== 'claimed') return outcome
      // Registered only after the claim: a heartbeat reports as lost every registered claim that Postgres does not
      // know.
      claimRegistry.add({ id: request.id, epoch: request.epoch, controller })
      await untilHealthy()
      return outcome
    },
    async claimNew(request, task, controller) {
      await untilHealthy()
      const outcome = await claimNew({ ...request, task: serializeTask(task) })
      if (outcome.kind === 'claimed') claimRegistry.add({ id: request.id, epoch: request.epoch, controller })
      return outcome
    },
    next: request => retryUncertain(request, next),
  }
}

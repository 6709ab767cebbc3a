import { setTimeout as startTimer } from 'node:timers'
import type { Settlement } from '#shared/db/attempts.ts'
import type { ClaimOutcome, ClaimRequest, Reservation } from '#shared/db/claims/admission.ts'
import { isUnavailable } from '#shared/db/pool.ts'
import type { TaskOutcome } from '#shared/db/tasks/finish.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import { now } from '#shared/process/clock.ts'
import type { ClaimStage } from './claim.ts'
import type { ClaimRegistry, StopReason } from './claim-registry.ts'
import type { EndedAttempt, Settle } from './settle.ts'

export type ClaimSessionDeps = {
  workerId: string
  claims: ClaimStage
  settle: Settle
  claimRegistry: ClaimRegistry
  /** Inserts a task as queued. */
  store(task: NewTask): Promise<unknown>
}

export type ClaimSession = ReturnType<typeof createClaimSession>

/** How the newest attempt ended. Billed unless it says otherwise. */
type AttemptEnd = Omit<EndedAttempt, 'n' | 'reservation' | 'at' | 'billed'> & { billed?: boolean }

/** How the task ends; the session adds the claim and the settlement. */
export type TaskEnd = Omit<TaskOutcome, 'id' | 'epoch' | 'from' | 'workerId' | 'settlement'>

/** A statement whose connection broke is committed within this time, or never. */
const LATE_COMMIT_MS = 10_000

/** Time reserved before the deadline to finish the task with a reason: a tenth of what is left, at most a second. */
const marginMs = (leftMs: number) => Math.min(1000, leftMs / 10)

/**
 * The claim of one run: its attempts, how many failed, and the settlement of the newest one. A settlement is written
 * together with the next step, in one transaction: the next attempt, the requeue or the end of the task.
 * @param fresh the task, if it is not stored yet: its first claim stores it
 */
export function createClaimSession(
  { workerId, claims, settle, claimRegistry, store }: ClaimSessionDeps,
  task: RunnableTask,
  fresh: NewTask | null = null,
) {
  const { id, epoch } = task
  const controller = new AbortController()
  const expiry = startTimer(() => controller.abort('deadline' satisfies StopReason), Math.max(0, task.left_ms))
  const deadline = performance.now() + task.left_ms
  let n = task.attempts
  let failedAttempts = task.tries
  let claimed = false
  let unstored = fresh
  let open: { reservation: Reservation; at: Date } | null = null
  let settlement: Settlement | null = null

  function settleAttempt(end: AttemptEnd): void {
    const attempt = open
    if (!attempt) throw new Error('no attempt is open')
    open = null
    settlement = settle.priceAttempt({ n, ...attempt, billed: true, ...end })
  }

  async function claimNew(request: ClaimRequest, fresh: NewTask): Promise<ClaimOutcome> {
    try {
      return await claims.claimNew(request, fresh, controller)
    } catch (error) {
      if (isUnavailable(error)) discard()
      throw error
    }
  }

  /**
   * The answer to the first claim was lost, and the client gets an error. The claim may have been committed, or may still be: the task
   * then ends without a call.
   */
  function discard(): void {
    const error = { code: 'unavailable', message: 'The database was unavailable when the request arrived.' } as const
    const attempt = { n: 1, outcome: 'aborted', usage: null, costUsd: '0', error }
    const end = () =>
      settle
        .finish({ id, epoch, from: 'running', workerId, status: 'failed', error, settlement: attempt })
        .catch(() => undefined)
    void end().then(() => startTimer(end, LATE_COMMIT_MS).unref())
  }

  /** Stores a task that ends or waits before its first claim. If the process dies now, the sweeper dispatches it. */
  async function ensureStored(): Promise<void> {
    if (!unstored) return
    await store({ ...unstored, dispatched: true })
    unstored = null
  }

  return {
    /** Aborted with a `StopReason`. */
    signal: controller.signal,
    /** The number of the newest attempt. */
    get attempt() {
      return n
    },
    get failedAttempts() {
      return failedAttempts
    },
    get claimed() {
      return claimed
    },
    /** This run has started an attempt. */
    get attempted() {
      return n > task.attempts
    },
    /** Time for calls and waits, milliseconds. */
    leftMs: () => deadline - marginMs(task.left_ms) - performance.now(),

    /** Starts the next attempt: claims the task, or settles the attempt before under the same claim. */
    async begin(reservation: Reservation): Promise<ClaimOutcome> {
      const at = new Date(now())
      const request = { id, epoch, n: n + 1, reservation }
      const outcome = claimed
        ? await claims.next({ ...request, tries: failedAttempts, settlement })
        : unstored
          ? await claimNew(request, unstored)
          : await claims.claim(request, controller)
      // A refused request has settled the attempt before as well.
      if (claimed) settlement = null
      if (outcome.kind !== 'claimed') return outcome
      n++
      claimed = true
      unstored = null
      open = { reservation, at }
      return outcome
    },

    /** Settles the open attempt with the next write. */
    settle: settleAttempt,

    /** As `settle`, for an attempt that counts as failed. */
    fail(end: AttemptEnd): void {
      failedAttempts++
      settleAttempt(end)
    },

    /** Settles an attempt whose outcome a bug left unknown, if one is open. */
    settleUnknown(error: NonNullable<AttemptEnd['error']>): void {
      if (open) settleAttempt({ outcome: 'unknown', usage: null, error })
    },

    /** Replaces a settlement that Postgres refuses: the attempt is unknown, charged at its reservation. */
    dropSettlement(): void {
      if (settlement) settlement = { n, outcome: 'unknown', usage: null, costUsd: null }
    },

    /** @returns false: the task had ended already, or the claim was lost */
    async finish(end: TaskEnd): Promise<boolean> {
      await ensureStored()
      const from = claimed ? 'running' : 'queued'
      const { ended } = await settle.finish({
        id,
        epoch,
        from,
        workerId: claimed ? workerId : null,
        settlement,
        ...end,
      })
      return ended
    },

    /** @returns the new epoch, or null if the claim was lost: then only the attempt is settled */
    async requeue(delayMs: number): Promise<number | null> {
      await ensureStored()
      return await settle.requeue(task, { delayMs, tries: failedAttempts, settlement, claimed })
    },

    /** Stops the running call. */
    stop: (reason: StopReason): void => controller.abort(reason),

    /** The task has no row. */
    get unstored() {
      return unstored !== null
    },

    close(): void {
      clearTimeout(expiry)
      claimRegistry.remove(task)
    },
  }
}

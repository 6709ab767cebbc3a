import type { Refusal } from '#shared/db/claims.ts'
import type { RunnableTask } from '#shared/db/tasks.ts'
import type { ErrorCode } from '#shared/errors.ts'
import type { KeptOptions } from '#shared/jobs/options.ts'
import type { Candidate } from '#shared/routing.ts'

/** Somebody who may answer later. `bookable`: a place can be kept. */
export type Wait = { candidate: Candidate; ms: number; bookable: boolean }

/** Why a call failed, or the task. */
export type Failed = { code: ErrorCode; message: string }

/** What stood in the way of a task's candidates, none of which has answered. */
export type Obstacles = {
  waits: Wait[]
  refusals: Refusal[]
  /** A candidate of which nobody knows what it costs. */
  unpriced: Candidate | null
  /** Why the last call failed. */
  failed: Failed | null
}

/** So that not all who wait for a window come in its first millisecond. */
const RESET_JITTER_MS = 1000

/** How soon a task asks again for a budget in which only reservations of others stand in its way, or for room: not all at once, and less often the longer it waits. */
export const contendedMs = ({ epoch }: Pick<RunnableTask, 'epoch'>) =>
  100 * 2 ** Math.min(epoch, 5) * (0.5 + Math.random())

/** In how many milliseconds somebody may answer at the soonest; Infinity: nobody will. */
export function untilAnswerable(task: RunnableTask, { waits, refusals }: Obstacles): number {
  const delays = [...waits.map(one => one.ms), budgetWait(task, { waits, refusals }) ?? Number.POSITIVE_INFINITY]
  if (waits.length > 0 && refusals.some(one => !one.exceeded)) delays.push(contendedMs(task))
  return Math.min(...delays)
}

/**
 * How long until a budget lets the task pass, if it is to wait for that; null: it is not. Only where nothing but budgets
 * stands in the way.
 */
function budgetWait(task: RunnableTask, { waits, refusals }: Pick<Obstacles, 'waits' | 'refusals'>): number | null {
  if (waits.length > 0 || refusals.length === 0) return null
  if (refusals.some(one => !one.exceeded)) return contendedMs(task)
  if ((task.options as KeptOptions).on_budget !== 'wait') return null
  const resets = refusals.flatMap(one => (one.resets_ms === null ? [] : [one.resets_ms]))
  return resets.length === 0 ? null : Math.max(0, Math.min(...resets)) + Math.random() * RESET_JITTER_MS
}

/** The budget that alone stood in the way. */
export const overBudget = ({ waits, refusals }: Obstacles): Refusal | undefined =>
  waits.length === 0 ? refusals[0] : undefined

/** The error of a task that nobody answered. @param anybody there was somebody to ask, now or in an earlier run */
export function whyUnanswered(obstacles: Obstacles, anybody: boolean): Failed {
  const { failed, unpriced } = obstacles
  const budget = overBudget(obstacles)
  if (budget) {
    // Whose key it is, the client knows.
    const whose = /^(key|batch):/.exec(budget.scope)?.[1] ?? budget.scope
    return {
      code: 'budget_exceeded',
      message: `The budget ${whose} per ${budget.span} of $${budget.limit_usd} does not let this task pass.`,
    }
  }
  if (failed) return failed
  if (unpriced) {
    const { provider, model } = unpriced
    return {
      code: 'model_price_unknown',
      message: `Nobody knows what ${provider}’s "${model}" costs; PRICES can say it.`,
    }
  }
  return anybody
    ? { code: 'provider_failed', message: 'No provider can answer before the deadline.' }
    : { code: 'no_provider', message: 'No configured provider can answer this task.' }
}

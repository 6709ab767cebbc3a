import type { BudgetRefusal } from '#shared/db/claims/admission.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { ErrorCode } from '#shared/errors.ts'
import { type Target, targetName } from '#shared/gate/target.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { NO_PROVIDER } from '#shared/models/providers.ts'
import { noModelMessage, notConfiguredMessage, unknownModel, unpricedModel } from '#shared/models/unknown-model.ts'
import { AUTO, type AvailableProvider } from '#shared/routing.ts'

/** A target that may answer in `ms`. `bookable`: the gate would book a slot. `down`: its circuit breaker is open. */
export type BusyTarget = { target: Target; ms: number; bookable: boolean; down?: boolean }

/** Why a call or the task failed. */
export type Failed = { code: ErrorCode; message: string; context?: Record<string, unknown> }

/** Follows the message of a prompt that fits no target's context window. */
export const CONTEXT_REMEDY = '. Shorten the input, or name a model with a larger context window.'

/** Why the targets of a task have not answered. */
export type Obstacles = {
  waits: BusyTarget[]
  refusals: BudgetRefusal[]
  /** A target without a known price. */
  unpriced: Target | null
  /** Why the last call failed. */
  failed: Failed | null
}

/** Spreads the tasks that wait for the same window. */
const RESET_JITTER_MS = 1000

/**
 * Milliseconds until a task retries while other reservations fill a budget, or other answers fill the memory. With
 * jitter, and longer with each dispatch.
 */
export const contentionDelayMs = ({ epoch }: Pick<RunnableTask, 'epoch'>) =>
  100 * 2 ** Math.min(epoch, 5) * (0.5 + Math.random())

/**
 * Milliseconds until a target may answer, or Infinity if none can.
 *
 * A task waits for an open breaker only if half of its time remains afterwards. With less, the probe would be its last
 * chance, and a client that waits would learn about the outage at its deadline instead of now.
 * @param leftMs time until the deadline
 */
export function retryDelayMs(task: RunnableTask, { waits, refusals }: Obstacles, leftMs: number): number {
  const worthIt = waits.filter(one => !one.down || leftMs >= 2 * one.ms)
  const delays = [...worthIt.map(one => one.ms), budgetWait(task, { waits, refusals }) ?? Number.POSITIVE_INFINITY]
  if (waits.length > 0 && refusals.some(one => !one.exceeded)) delays.push(contentionDelayMs(task))
  return Math.min(...delays)
}

/** Milliseconds until a budget may admit the task; null: it does not wait for one, or a busy target may answer sooner. */
function budgetWait(task: RunnableTask, { waits, refusals }: Pick<Obstacles, 'waits' | 'refusals'>): number | null {
  if (waits.length > 0 || refusals.length === 0) return null
  if (refusals.some(one => !one.exceeded)) return contentionDelayMs(task)
  if ((task.options as StoredOptions).on_budget !== 'wait') return null
  const resets = refusals.flatMap(one => (one.resets_ms === null ? [] : [one.resets_ms]))
  return resets.length === 0 ? null : Math.max(0, Math.min(...resets)) + Math.random() * RESET_JITTER_MS
}

/** The refusing budget, if only budgets prevented the call. */
export const refusingBudget = ({ waits, refusals }: Obstacles): BudgetRefusal | undefined =>
  waits.length === 0 ? refusals[0] : undefined

/**
 * The error of a task without an answer.
 * @param asked whether the task had a target, now or in an earlier run
 * @param named the provider and model that the task names, and the available providers
 */
export function noAnswerError(
  obstacles: Obstacles,
  asked: boolean,
  named: { provider: string | null; model: string | null; available: readonly AvailableProvider[] },
): Failed {
  const { failed, unpriced } = obstacles
  // A budget without room for a higher limit is not why the truncated answer is unusable.
  if (failed?.code === 'output_truncated') return failed
  const budget = refusingBudget(obstacles)
  if (budget) {
    // The client knows its own key and batch.
    const whose = /^(key|batch):/.exec(budget.scope)?.[1] ?? budget.scope
    return {
      code: 'budget_exceeded',
      message: `The budget ${whose} per ${budget.window} of $${budget.limit_usd} does not let this task pass.`,
    }
  }
  if (failed) return failed
  if (unpriced) {
    const { provider, model } = unpriced
    const { code, message } = unpricedModel(provider, model, named.available)
    return { code, message }
  }
  const down = obstacles.waits.filter(one => one.down).map(one => targetName(one.target))
  if (down.length > 0 && down.length === obstacles.waits.length)
    return { code: 'provider_failed', message: `Calls to ${down.join(', ')} keep failing. Try again in a minute.` }
  if (asked) return { code: 'provider_failed', message: 'No provider can answer before the deadline.' }
  const { provider, model, available } = named
  const real = available.filter(one => one.kinds === undefined)
  if (real.length === 0) return { code: 'no_provider', message: NO_PROVIDER }
  const able = provider === null ? real : real.filter(one => one.name === provider)
  if (able.length === 0) return { code: 'no_provider', message: notConfiguredMessage(provider!) }
  return provider === null && model !== null && model !== AUTO
    ? { code: 'unknown_model', message: unknownModel(model, real).message }
    : { code: 'no_provider', message: noModelMessage(able) }
}

import type { Settlement } from '#shared/db/attempts.ts'
import type { Reservation } from '#shared/db/claims/admission.ts'
import { createRequeuer, type Requeue } from '#shared/db/claims/requeue.ts'
import type { Db } from '#shared/db/pool.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import type { FinishTask, TaskOutcome } from '#shared/db/tasks/finish.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { TaskError } from '#shared/errors.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { ModelLabel } from '#shared/metrics/model-label.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import { picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import type { Usage } from '#shared/providers/define.ts'
import type { Producer } from '#shared/queue/producer.ts'

/**
 * One attempt that has ended. `billed` false: it costs nothing. `begun`: the provider had begun to answer before the call
 * failed, so that it may bill the call.
 */
export type EndedAttempt = {
  n: number
  reservation: Reservation
  /** Start of the attempt. Its price is of that time. */
  at: Date
  outcome: string
  /** null: the provider did not say. */
  usage: Usage | null
  finishReason?: FinishReason | null
  billed: boolean
  begun?: boolean
  error?: TaskError | undefined
}

export type Settle = {
  /** Prices an attempt and counts it in the metrics. Writes nothing. */
  priceAttempt(end: EndedAttempt): Settlement
  /** Ends the task and settles its attempt in one transaction. */
  finish: FinishTask
  /**
   * Settles the attempt and releases the claim. The task runs again after a delay: from the queue, or in its chunk if it
   * is a batch line. @returns the new epoch; null: the claim was lost
   */
  requeue(task: RunnableTask, request: Omit<Requeue, 'id' | 'epoch'>): Promise<number | null>
}

/** Failures that the provider does not bill, unless it had begun to answer. */
const UNBILLED = new Set([
  'rate_limited',
  'overloaded',
  'server_error',
  'auth',
  'no_balance',
  'unknown_model',
  'unsupported',
  'context_exceeded',
  'invalid_request',
])

export function createSettle(deps: {
  db: Db
  workerId: string
  end: FinishTask
  producer: Pick<Producer, 'dispatch'>
  prices: Pick<Prices, 'costOf'>
  modelLabel: ModelLabel
  metrics: Pick<Metrics, 'attempts' | 'tokens' | 'cost' | 'overReserved'>
}): Settle {
  const { metrics, producer, prices } = deps
  const requeue = createRequeuer(deps.db, deps.workerId)

  function cost({ reservation, at, outcome, usage, billed, begun = false }: EndedAttempt): string | null {
    if (usage) return prices.costOf(reservation.provider, reservation.model, usage, { at })
    return !billed || (!begun && UNBILLED.has(outcome)) ? '0' : null
  }

  return {
    priceAttempt(end) {
      const { n, reservation, outcome, usage, error, finishReason = null } = end
      const { provider, kind } = reservation
      const labels = { provider, kind, model: deps.modelLabel(provider, reservation.model) }
      metrics.attempts.inc({ provider, outcome })
      if (usage) {
        metrics.tokens.inc({ ...labels, direction: 'input' }, usage.inputTokens)
        metrics.tokens.inc({ ...labels, direction: 'output' }, usage.outputTokens)
      }
      const costUsd = cost(end)
      // For dashboards. The ledger has the exact figure.
      metrics.cost.inc(labels, Number(costUsd ?? reservation.usd))
      if (costUsd !== null && picodollars(costUsd) > picodollars(reservation.usd))
        metrics.overReserved.inc({ provider })
      return { n, outcome, ...(error && { error }), usage, ...(finishReason && { finishReason }), costUsd }
    },
    finish: (ending: TaskOutcome) => retryUnavailable(() => deps.end(ending)),
    async requeue(task, request) {
      const epoch = await retryUnavailable(() => requeue({ ...request, id: task.id, epoch: task.epoch }))
      if (epoch === null || task.batch_id) return epoch
      // If this fails, the sweeper finds that the job is missing and dispatches it.
      await producer
        .dispatch({ id: task.id, epoch, queue: task.queue, priority: task.priority, delayMs: request.delayMs })
        .catch(() => undefined)
      return epoch
    },
  }
}

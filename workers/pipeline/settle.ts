import type { Settlement } from '#shared/db/attempts.ts'
import { createRequeuer, type Need, type Requeue } from '#shared/db/claims.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import type { Ender, Ending, RunnableTask } from '#shared/db/tasks.ts'
import type { TaskError } from '#shared/errors.ts'
import type { ModelLabel } from '#shared/measure.ts'
import type { Metrics } from '#shared/metrics.ts'
import { picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import type { Producer } from '#shared/queue/producer.ts'
import type { Usage } from '#workers/providers/define.ts'

/**
 * What came of one attempt. `billed` false: it surely costs nothing. `begun`: the provider was answering when it failed, so that
 * no failure is free.
 */
export type AttemptEnd = {
  n: number
  need: Need
  /** When it was started: its price is of that time. */
  at: Date
  outcome: string
  /** null: the provider did not say. */
  usage: Usage | null
  billed: boolean
  begun?: boolean
  error?: TaskError | undefined
}

export type Settle = {
  /** Prices and counts an attempt. */
  attempt(end: AttemptEnd): Settlement
  /** Ends the task and settles its attempt in one transaction. */
  end: Ender
  /**
   * Settles the attempt and gives the task back, to run again after a while: to the queue, or, if it is a line, to whoever
   * runs its chunk. @returns its new epoch; null: the claim was lost
   */
  requeue(task: RunnableTask, request: Omit<Requeue, 'id' | 'epoch'>): Promise<number | null>
}

/** Calls that the provider surely did not bill, unless it had begun to answer. */
const UNBILLED = new Set([
  'rate_limited',
  'overloaded',
  'server_error',
  'auth',
  'no_balance',
  'unknown_model',
  'invalid_request',
])

export function createSettle(deps: {
  db: Db
  workerId: string
  end: Ender
  producer: Pick<Producer, 'dispatch'>
  prices: Pick<Prices, 'costOf'>
  modelLabel: ModelLabel
  metrics: Pick<Metrics, 'attempts' | 'tokens' | 'cost' | 'overReserved'>
}): Settle {
  const { metrics, producer, prices } = deps
  const requeue = createRequeuer(deps.db, deps.workerId)

  function cost({ need, at, outcome, usage, billed, begun = false }: AttemptEnd): string | null {
    if (usage) return prices.costOf(need.provider, need.model, usage, { at })
    return !billed || (!begun && UNBILLED.has(outcome)) ? '0' : null
  }

  return {
    attempt(end) {
      const { n, need, outcome, usage, error } = end
      const { provider, kind } = need
      const labels = { provider, kind, model: deps.modelLabel(provider, need.model) }
      metrics.attempts.inc({ provider, outcome })
      if (usage) {
        metrics.tokens.inc({ ...labels, direction: 'input' }, usage.inputTokens)
        metrics.tokens.inc({ ...labels, direction: 'output' }, usage.outputTokens)
      }
      const costUsd = cost(end)
      // A figure for dashboards; the ledger has the exact one.
      metrics.cost.inc(labels, Number(costUsd ?? need.usd))
      if (costUsd !== null && picodollars(costUsd) > picodollars(need.usd)) metrics.overReserved.inc({ provider })
      return { n, outcome, ...(error && { error }), usage, costUsd }
    },
    end: (ending: Ending) => persist(() => deps.end(ending)),
    async requeue(task, request) {
      const epoch = await persist(() => requeue({ ...request, id: task.id, epoch: task.epoch }))
      if (epoch === null || task.batch_id) return epoch
      // A dispatch that fails is the sweeper's, who finds that the queue has it not.
      await producer
        .dispatch({ id: task.id, epoch, queue: task.queue, priority: task.priority, delayMs: request.delayMs })
        .catch(() => undefined)
      return epoch
    },
  }
}

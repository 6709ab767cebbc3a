import type { Settlement } from '#shared/db/attempts.ts'
import { createRequeuer, type Requeue } from '#shared/db/claims.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
import type { Ender, Ending, RunnableTask } from '#shared/db/tasks.ts'
import type { Metrics } from '#shared/metrics.ts'
import { costOf, priceVersionOf } from '#shared/models/prices.ts'
import type { Producer } from '#shared/queue/producer.ts'
import type { Candidate } from '#shared/routing.ts'
import type { Usage } from '#workers/providers/define.ts'

export type Settle = {
  /** What came of one attempt, priced and counted. `usage` null: the provider did not say. */
  attempt(
    n: number,
    candidate: Candidate,
    outcome: string,
    usage: Usage | null,
    error?: { code: string; message: string },
  ): Settlement
  /** Ends the task and settles its attempt in one transaction. */
  end: Ender
  /** Settles the attempt and gives the task back, to run again after a while. */
  requeue(task: RunnableTask, request: Omit<Requeue, 'id' | 'epoch'>): Promise<void>
}

/** Calls that the provider surely did not bill. */
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
  metrics: Metrics
}): Settle {
  const { metrics, producer } = deps
  const requeue = createRequeuer(deps.db, deps.workerId)
  return {
    attempt(n, { provider, model }, outcome, usage, error) {
      metrics.attempts.inc({ provider, outcome })
      if (usage) {
        metrics.tokens.inc({ provider, direction: 'input' }, usage.inputTokens)
        metrics.tokens.inc({ provider, direction: 'output' }, usage.outputTokens)
      }
      const costUsd = usage ? costOf(provider, model, usage) : UNBILLED.has(outcome) ? '0' : null
      return {
        n,
        outcome,
        ...(error && { error }),
        usage,
        costUsd,
        priceVersion: costUsd === null ? null : priceVersionOf(provider, model),
      }
    },
    end: (ending: Ending) => persist(() => deps.end(ending)),
    async requeue(task, request) {
      const epoch = await persist(() => requeue({ ...request, id: task.id, epoch: task.epoch }))
      if (epoch === null) return
      // A failed dispatch is the sweeper's: the row says that it has not been dispatched.
      await producer
        .dispatch({ id: task.id, epoch, queue: task.queue, priority: task.priority, delayMs: request.delayMs })
        .catch(() => undefined)
    },
  }
}

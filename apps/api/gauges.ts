import { countLiveBatches } from '#shared/db/batches.ts'
import { leastRemaining } from '#shared/db/budgets.ts'
import { readBacklog } from '#shared/db/webhooks.ts'
import { withDeadline } from '#shared/lifecycle.ts'
import type { ApiDeps } from './deps.ts'

type Deps = Pick<ApiDeps, 'producer' | 'db' | 'fleet' | 'scale' | 'metrics'>

const BREAKER = { closed: 0, half_open: 1, open: 2 }

/** What is looked up when it is asked for. What cannot be had within `ms` is left out. Never rejects. */
export async function refreshGauges({ producer, db, fleet, scale, metrics }: Deps, ms: number): Promise<void> {
  const gauges: [gauge: { reset(): void }, read: () => Promise<unknown>][] = [
    [metrics.queueDepth, countQueues],
    [metrics.budgetRemaining, lookAtBudgets],
    [metrics.breakerState, lookAtBreakers],
    [metrics.batchesLive, countBatches],
    [{ reset: forgetScale }, lookAtScale],
    // A gauge without labels would be 0, as if all were well.
    [{ reset: forgetWebhooks }, lookAtWebhooks],
  ]
  await Promise.all(gauges.map(([gauge, read]) => withDeadline(read(), ms).catch(() => gauge.reset())))

  async function countQueues(): Promise<void> {
    await Promise.all(
      producer.queues().map(async queue => {
        for (const [state, count] of Object.entries(
          await queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed'),
        )) {
          metrics.queueDepth.set({ queue: queue.name, state }, count)
        }
      }),
    )
  }

  async function lookAtBudgets(): Promise<void> {
    const least = await leastRemaining(db)
    // Some may have been taken away.
    metrics.budgetRemaining.reset()
    for (const { scope_kind, span, usd } of least) metrics.budgetRemaining.set({ scope_kind, window: span }, usd)
  }

  async function countBatches(): Promise<void> {
    const live = await countLiveBatches(db)
    metrics.batchesLive.reset()
    for (const { status, count } of live) metrics.batchesLive.set({ status }, count)
  }

  async function lookAtScale(): Promise<void> {
    for (const [queue, one] of await scale.look()) {
      metrics.scaleWanted.set({ queue }, one.slots)
      metrics.fleetSlots.set({ queue }, one.liveSlots)
      metrics.fleetWorkers.set({ queue }, one.liveWorkers)
      metrics.oldestWait.set({ queue }, one.oldestWaitSeconds)
    }
  }

  function forgetScale(): void {
    for (const gauge of [metrics.scaleWanted, metrics.fleetSlots, metrics.fleetWorkers, metrics.oldestWait])
      gauge.reset()
  }

  async function lookAtWebhooks(): Promise<void> {
    const { pending, overdue_seconds } = await readBacklog(db)
    metrics.webhooksPending.set(pending)
    metrics.webhooksOverdue.set(overdue_seconds)
  }

  function forgetWebhooks(): void {
    metrics.webhooksPending.remove()
    metrics.webhooksOverdue.remove()
  }

  async function lookAtBreakers(): Promise<void> {
    const { targets } = await fleet.look()
    metrics.breakerState.reset()
    for (const [provider, models] of Map.groupBy(targets, one => one.target.provider))
      metrics.breakerState.set({ provider }, Math.max(...models.map(one => BREAKER[one.breaker])))
  }
}

import { countLiveBatches } from '#shared/db/batches.ts'
import { leastRemaining } from '#shared/db/budgets.ts'
import { readBacklog } from '#shared/db/webhooks.ts'
import type { TargetState } from '#shared/gate/types.ts'
import { withDeadline } from '#shared/lifecycle.ts'
import { observePool } from '#shared/measure.ts'
import type { ApiDeps } from './deps.ts'

type Deps = Pick<ApiDeps, 'producer' | 'db' | 'fleet' | 'scale' | 'redisMemory' | 'metrics'>

const BREAKER = { closed: 0, half_open: 1, open: 2 }

/** What is looked up when it is asked for. What cannot be had within `ms` is left out. Never rejects. */
export async function refreshGauges(deps: Deps, ms: number): Promise<void> {
  const { producer, db, fleet, scale, redisMemory, metrics } = deps
  observePool(metrics, db)
  const gauges: [gauge: { reset(): void }, read: () => Promise<unknown>][] = [
    [metrics.queueDepth, countQueues],
    [metrics.budgetRemaining, lookAtBudgets],
    [metrics.breakerState, lookAtProviders],
    [metrics.redisBytes, lookAtRedis],
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
    metrics.budgetRatio.reset()
    for (const { scope_kind, span, usd, ratio } of least) {
      metrics.budgetRemaining.set({ scope_kind, window: span }, usd)
      metrics.budgetRatio.set({ scope_kind, window: span }, ratio)
    }
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

  async function lookAtProviders(): Promise<void> {
    const { targets } = await fleet.look()
    for (const gauge of [metrics.breakerState, metrics.permits, metrics.limitUsed]) gauge.reset()
    for (const [provider, models] of Map.groupBy(targets, one => one.target.provider)) {
      metrics.breakerState.set({ provider }, Math.max(...models.map(one => BREAKER[one.breaker])))
      const sum = (of: (one: TargetState) => number) => models.reduce((all, one) => all + of(one), 0)
      metrics.permits.set(
        { provider, state: 'in_use' },
        sum(one => one.concurrency.used),
      )
      metrics.permits.set(
        { provider, state: 'waited_for' },
        sum(one => one.waiters + one.bookings),
      )
      for (const limit of LIMITS) {
        const parts = models.flatMap(one => (one[limit].limit === null ? [] : [partOf(one[limit])]))
        if (parts.length > 0) metrics.limitUsed.set({ provider, limit }, Math.max(...parts))
      }
    }
  }

  async function lookAtRedis(): Promise<void> {
    const read = await redisMemory()
    for (const gauge of [metrics.redisBytes, metrics.redisEvicts]) gauge.reset()
    for (const { redis, usedBytes, maxBytes, evicts } of read) {
      metrics.redisBytes.set({ redis, what: 'used' }, usedBytes)
      metrics.redisBytes.set({ redis, what: 'max' }, maxBytes)
      metrics.redisEvicts.set({ redis }, evicts ? 1 : 0)
    }
  }
}

const LIMITS = ['rpm', 'tpm', 'itpm', 'otpm', 'concurrency'] as const
const partOf = ({ used, limit }: { used: number; limit: number | null }) => (limit ? used / limit : 1)

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
  const { queueDepth, budgetRemaining, budgetRatio, breakerState, permits, limitUsed } = metrics
  const { redisBytes, redisEvicts, batchesLive, scaleWanted, fleetSlots, fleetWorkers, oldestWait } = metrics
  /** Whatever a look sets: what it was may not stay for what it is. */
  const gauges: [read: () => Promise<unknown>, ...gauges: { reset(): void }[]][] = [
    [countQueues, queueDepth],
    [lookAtBudgets, budgetRemaining, budgetRatio],
    [lookAtProviders, breakerState, permits, limitUsed],
    [lookAtRedis, redisBytes, redisEvicts],
    [countBatches, batchesLive],
    [lookAtScale, scaleWanted, fleetSlots, fleetWorkers, oldestWait],
    // A gauge without labels would be 0, as if all were well.
    [lookAtWebhooks, { reset: forgetWebhooks }],
  ]
  await Promise.all(
    gauges.map(([read, ...gauges]) =>
      withDeadline(read(), ms).catch(() => {
        for (const gauge of gauges) gauge.reset()
      }),
    ),
  )

  async function countQueues(): Promise<void> {
    await Promise.all(
      producer.queues().map(async queue => {
        for (const [state, count] of Object.entries(
          await queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed'),
        )) {
          queueDepth.set({ queue: queue.name, state }, count)
        }
      }),
    )
  }

  async function lookAtBudgets(): Promise<void> {
    const least = await leastRemaining(db)
    // Some may have been taken away.
    budgetRemaining.reset()
    budgetRatio.reset()
    for (const { scope_kind, span, usd, ratio } of least) {
      budgetRemaining.set({ scope_kind, window: span }, usd)
      budgetRatio.set({ scope_kind, window: span }, ratio)
    }
  }

  async function countBatches(): Promise<void> {
    const live = await countLiveBatches(db)
    batchesLive.reset()
    for (const { status, count } of live) batchesLive.set({ status }, count)
  }

  async function lookAtScale(): Promise<void> {
    for (const [queue, one] of await scale.look()) {
      scaleWanted.set({ queue }, one.slots)
      fleetSlots.set({ queue }, one.liveSlots)
      fleetWorkers.set({ queue }, one.liveWorkers)
      oldestWait.set({ queue }, one.oldestWaitSeconds)
    }
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
    for (const gauge of [breakerState, permits, limitUsed]) gauge.reset()
    for (const [provider, models] of Map.groupBy(targets, one => one.target.provider)) {
      breakerState.set({ provider }, Math.max(...models.map(one => BREAKER[one.breaker])))
      const sum = (of: (one: TargetState) => number) => models.reduce((all, one) => all + of(one), 0)
      permits.set(
        { provider, state: 'in_use' },
        sum(one => one.concurrency.used),
      )
      permits.set(
        { provider, state: 'waited_for' },
        sum(one => one.waiters + one.bookings),
      )
      for (const limit of LIMITS) {
        const parts = models.flatMap(one => (one[limit].limit === null ? [] : [partOf(one[limit])]))
        if (parts.length > 0) limitUsed.set({ provider, limit }, Math.max(...parts))
      }
    }
  }

  async function lookAtRedis(): Promise<void> {
    const read = await redisMemory()
    for (const gauge of [redisBytes, redisEvicts]) gauge.reset()
    for (const { redis, usedBytes, maxBytes, evicts } of read) {
      redisBytes.set({ redis, what: 'used' }, usedBytes)
      redisBytes.set({ redis, what: 'max' }, maxBytes)
      redisEvicts.set({ redis }, evicts ? 1 : 0)
    }
  }
}

const LIMITS = ['rpm', 'tpm', 'itpm', 'otpm', 'concurrency'] as const
const partOf = ({ used, limit }: { used: number; limit: number | null }) => (limit ? used / limit : 1)

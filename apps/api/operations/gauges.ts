import { singleFlight } from '#shared/concurrency/single-flight.ts'
import { countLiveBatches } from '#shared/db/batches/read.ts'
import { leastRemaining } from '#shared/db/budgets.ts'
import { readDeliveryBacklog } from '#shared/db/webhooks/log.ts'
import type { TargetState } from '#shared/gate/types.ts'
import { observePool } from '#shared/metrics/model-label.ts'
import { withDeadline } from '#shared/process/lifecycle.ts'
import type { ApiDeps } from '../deps.ts'
import { LIMIT_NAMES } from '../providers/provider-json.ts'

type Deps = Pick<ApiDeps, 'producer' | 'db' | 'providerStatus' | 'scale' | 'redisMemory' | 'metrics'>

const BREAKER = { closed: 0, half_open: 1, open: 2 }

/**
 * Gauges that are read on each scrape. A gauge that cannot be read within `ms` is left out, and is not read again while that read
 * still runs. Never rejects.
 */
export function createGauges(deps: Deps): (ms: number) => Promise<void> {
  const { producer, db, providerStatus, scale, redisMemory, metrics } = deps
  const { queueDepth, budgetRemaining, budgetRatio, breakerState, permits, limitUsed } = metrics
  const { redisBytes, redisEvicts, batchesLive, scaleWanted, fleetSlots, fleetWorkers, oldestWait } = metrics
  /** Each read with the gauges that it sets. They are reset if it fails, because an old value would look like a new one. */
  const gauges: [read: () => Promise<unknown>, ...gauges: { reset(): void }[]][] = [
    [countQueues, queueDepth],
    [readBudgets, budgetRemaining, budgetRatio],
    [readProviders, breakerState, permits, limitUsed],
    [readRedisMemory, redisBytes, redisEvicts],
    [countBatches, batchesLive],
    [readScale, scaleWanted, fleetSlots, fleetWorkers, oldestWait],
    // `reset` sets a gauge without labels to 0, which would look healthy.
    [readWebhooks, { reset: removeWebhooks }],
  ]
  const flights = gauges.map(([read, ...gauges]) => [singleFlight(read), gauges] as const)
  return async ms => {
    observePool(metrics, db)
    await Promise.all(
      flights.map(([read, gauges]) =>
        withDeadline(read(), ms).catch(() => {
          for (const gauge of gauges) gauge.reset()
        }),
      ),
    )
  }

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

  async function readBudgets(): Promise<void> {
    const remaining = await leastRemaining(db)
    // Budgets may have been deleted.
    budgetRemaining.reset()
    budgetRatio.reset()
    for (const { scope_kind, window, usd, ratio } of remaining) {
      budgetRemaining.set({ scope_kind, window }, usd)
      budgetRatio.set({ scope_kind, window }, ratio)
    }
  }

  async function countBatches(): Promise<void> {
    const live = await countLiveBatches(db)
    batchesLive.reset()
    for (const { status, count } of live) batchesLive.set({ status }, count)
  }

  async function readScale(): Promise<void> {
    for (const [queue, one] of await scale.read()) {
      scaleWanted.set({ queue }, one.slots)
      fleetSlots.set({ queue }, one.liveSlots)
      fleetWorkers.set({ queue }, one.liveWorkers)
      oldestWait.set({ queue }, one.oldestWaitSeconds)
    }
  }

  async function readWebhooks(): Promise<void> {
    const { pending, overdue_seconds } = await readDeliveryBacklog(db)
    metrics.webhooksPending.set(pending)
    metrics.webhooksOverdue.set(overdue_seconds)
  }

  function removeWebhooks(): void {
    metrics.webhooksPending.remove()
    metrics.webhooksOverdue.remove()
  }

  async function readProviders(): Promise<void> {
    const { targets } = await providerStatus.read()
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
      for (const limit of LIMIT_NAMES) {
        const shares = models.flatMap(one => (one[limit].limit === null ? [] : [usedShare(one[limit])]))
        if (shares.length > 0) limitUsed.set({ provider, limit }, Math.max(...shares))
      }
    }
  }

  async function readRedisMemory(): Promise<void> {
    const read = await redisMemory()
    for (const gauge of [redisBytes, redisEvicts]) gauge.reset()
    for (const { redis, usedBytes, maxBytes, evicts } of read) {
      redisBytes.set({ redis, what: 'used' }, usedBytes)
      redisBytes.set({ redis, what: 'max' }, maxBytes)
      redisEvicts.set({ redis }, evicts ? 1 : 0)
    }
  }
}

const usedShare = ({ used, limit }: { used: number; limit: number | null }) => (limit ? used / limit : 1)

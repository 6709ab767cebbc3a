import { expect, it } from 'vitest'
import type { Db } from '#shared/db/pool.ts'
import type { TargetState } from '#shared/gate/types.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createGauges } from './gauges.ts'

const none = { used: 0, limit: null }
const target = (provider: string, breaker: string, more: Partial<TargetState> = {}) =>
  ({
    target: { provider, model: breaker },
    breaker,
    ...{ rpm: none, tpm: none, itpm: none, otpm: none, concurrency: none, waiters: 0, bookings: 0 },
    ...more,
  }) as TargetState

function setUp() {
  const metrics = createMetrics('api')
  const state = {
    targets: [] as TargetState[],
    least: [{ scope_kind: 'key', window: 'day', usd: 1.5, ratio: 0.25 }],
    redis: [] as Awaited<ReturnType<Parameters<typeof createGauges>[0]['redisMemory']>>,
    budgets: null as Error | null,
    scale: new Map<string, object>(),
  }
  const db = { query: async () => (state.budgets ? Promise.reject(state.budgets) : state.least) } as unknown as Db
  db.stats = () => ({ total: 3, idle: 1, waiting: 2 })
  const redisMemory = async () => await state.redis
  const providerStatus = {
    read: async () => ({ targets: state.targets, workers: new Map() }),
    invalidate: () => undefined,
  }
  const scale = { read: async () => state.scale as never, workersFor: () => 0 }
  const producer = { queues: () => [] } as unknown as Parameters<typeof createGauges>[0]['producer']
  const shown = async () => {
    await createGauges({ metrics, db, providerStatus, scale, producer, redisMemory })(50)
    const gauges = await Promise.all([metrics.breakerState.get(), metrics.budgetRemaining.get()])
    return gauges.map(gauge => gauge.values.map(one => [...Object.values(one.labels), one.value]))
  }
  return { state, providerStatus, shown, registry: metrics.registry }
}

it('the breaker of a provider is that of its worst model', async () => {
  const { state, shown } = setUp()
  state.targets = [
    target('a', 'closed'),
    target('b', 'closed'),
    target('b', 'open'),
    target('b', 'half_open'),
    target('c', 'half_open'),
  ]
  const [breakers] = await shown()
  expect(breakers).toEqual([
    ['a', 0],
    ['b', 2],
    ['c', 1],
  ])
  state.targets = [target('b', 'closed')]
  expect((await shown())[0]).toEqual([['b', 0]])
})

it('the webhook backlog is absent if it cannot be read', async () => {
  const { state, shown, registry } = setUp()
  const named = async () => {
    await shown()
    return (await registry.metrics()).match(/^sluice_webhook_\w+(?=\{)/gm) ?? []
  }
  const backlog = { pending: 3, overdue_seconds: 1.5 }
  Object.assign(state.least[0]!, backlog)
  expect(await named()).toEqual(['sluice_webhook_deliveries_pending', 'sluice_webhook_overdue_seconds'])
  state.budgets = new Error('away')
  expect(await named()).toEqual([])
})

it('a gauge that cannot be read is absent instead of stale; the others are present', async () => {
  const { state, providerStatus, shown } = setUp()
  state.targets = [target('a', 'closed')]
  expect(await shown()).toEqual([[['a', 0]], [['key', 'day', 1.5]]])
  state.budgets = new Error('away')
  expect(await shown()).toEqual([[['a', 0]], []])
  state.budgets = null
  providerStatus.read = () => new Promise(() => undefined)
  expect(await shown()).toEqual([[], [['key', 'day', 1.5]]])
})

it('a failed read removes all values of the last one', async () => {
  const { state, providerStatus, shown, registry } = setUp()
  const away = Promise.reject(new Error('away'))
  away.catch(() => {})
  state.targets = [target('a', 'closed', { rpm: { used: 1, limit: 10 } })]
  state.redis = [{ redis: 'queue', usedBytes: 10, maxBytes: 0, evicts: false }]
  state.scale = new Map([['default', { slots: 1, liveSlots: 1, liveWorkers: 1, oldestWaitSeconds: 1 }]])
  const named = async () => {
    await shown()
    const looked = /^sluice_(budget|breaker|permits|limit|redis|scale|fleet|queue_oldest)\w*(?=\{)/gm
    return new Set((await registry.metrics()).match(looked) ?? [])
  }
  expect([...(await named())].toSorted()).toEqual([
    'sluice_breaker_state',
    'sluice_budget_remaining_ratio',
    'sluice_budget_remaining_usd',
    'sluice_fleet_slots',
    'sluice_fleet_workers',
    'sluice_limit_used_ratio',
    'sluice_permits',
    'sluice_queue_oldest_wait_seconds',
    'sluice_redis_evicts',
    'sluice_redis_memory_bytes',
    'sluice_scale_wanted',
  ])
  Object.assign(state, { budgets: new Error('away'), redis: away, scale: null })
  providerStatus.read = () => away
  expect(await named()).toEqual(new Set())
})

it('the used share of a limit is that of the model with the highest share', async () => {
  const { state, shown, registry } = setUp()
  const usage = (used: number, limit: number | null) => ({ used, limit })
  state.targets = [
    target('a', 'closed', { rpm: usage(10, 100), concurrency: usage(2, null), waiters: 1, bookings: 3 }),
    target('a', 'open', { rpm: usage(30, 50), concurrency: usage(5, 10) }),
    target('b', 'closed', { tpm: usage(0, 0) }),
  ]
  await shown()
  const text = await registry.metrics()
  for (const line of [
    'sluice_limit_used_ratio{provider="a",limit="rpm",part="api"} 0.6',
    'sluice_limit_used_ratio{provider="a",limit="concurrency",part="api"} 0.5',
    'sluice_limit_used_ratio{provider="b",limit="tpm",part="api"} 1',
    'sluice_permits{provider="a",state="in_use",part="api"} 7',
    'sluice_permits{provider="a",state="waited_for",part="api"} 4',
  ])
    expect(text).toContain(line)
  expect(text.match(/sluice_limit_used_ratio\{/g)).toHaveLength(3)
})

it('Redis memory, pool and remaining budgets are exported', async () => {
  const { state, shown, registry } = setUp()
  state.redis = [{ redis: 'queue', usedBytes: 10, maxBytes: 0, evicts: false }]
  await shown()
  const text = await registry.metrics()
  for (const line of [
    'sluice_redis_memory_bytes{redis="queue",what="used",part="api"} 10',
    'sluice_redis_memory_bytes{redis="queue",what="max",part="api"} 0',
    'sluice_redis_evicts{redis="queue",part="api"} 0',
    'sluice_postgres_connections{state="waiting",part="api"} 2',
    'sluice_budget_remaining_ratio{scope_kind="key",window="day",part="api"} 0.25',
  ])
    expect(text).toContain(line)
})

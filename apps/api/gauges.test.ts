import { expect, it } from 'vitest'
import type { Db } from '#shared/db/pool.ts'
import type { TargetState } from '#shared/gate/types.ts'
import { createMetrics } from '#shared/metrics.ts'
import { refreshGauges } from './gauges.ts'

const target = (provider: string, breaker: string) => ({ target: { provider, model: breaker }, breaker }) as TargetState

function setUp() {
  const metrics = createMetrics('api')
  const state = {
    targets: [] as TargetState[],
    least: [{ scope_kind: 'key', span: 'day', usd: 1.5 }],
    budgets: null as Error | null,
  }
  const db = { query: async () => (state.budgets ? Promise.reject(state.budgets) : state.least) } as unknown as Db
  const fleet = { look: async () => ({ targets: state.targets, workers: new Map() }), forget: () => undefined }
  const scale = { look: async () => new Map(), workersFor: () => 0 }
  const producer = { queues: () => [] } as unknown as Parameters<typeof refreshGauges>[0]['producer']
  const shown = async () => {
    await refreshGauges({ metrics, db, fleet, scale, producer }, 50)
    const gauges = await Promise.all([metrics.breakerState.get(), metrics.budgetRemaining.get()])
    return gauges.map(gauge => gauge.values.map(one => [...Object.values(one.labels), one.value]))
  }
  return { state, fleet, shown, registry: metrics.registry }
}

it('the breaker of a provider is the worst of its models', async () => {
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

it('how many events wait is left out where it cannot be read', async () => {
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

it('what cannot be read is left out rather than shown as it was; the rest is there', async () => {
  const { state, fleet, shown } = setUp()
  state.targets = [target('a', 'closed')]
  expect(await shown()).toEqual([[['a', 0]], [['key', 'day', 1.5]]])
  state.budgets = new Error('away')
  expect(await shown()).toEqual([[['a', 0]], []])
  state.budgets = null
  fleet.look = () => new Promise(() => undefined)
  expect(await shown()).toEqual([[], [['key', 'day', 1.5]]])
})

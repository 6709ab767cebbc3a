import { expect, it } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import type { CallStats, Capacity, RunningTasks } from '#shared/db/backlog-stats.ts'
import type { Db } from '#shared/db/pool.ts'
import { type Limits, NO_LIMITS } from '#shared/db/provider-limits.ts'
import { createScale } from './scale.ts'

/** A process that has just started, with these figures from Postgres. */
function scaleOf(figures: {
  capacity?: Capacity[]
  running?: RunningTasks[]
  calls?: CallStats[]
  limits?: Partial<Limits>
}) {
  let now = 0
  const rows: Record<string, unknown[] | undefined> = {
    stats_capacity: figures.capacity,
    stats_running: figures.running,
    stats_calls: figures.calls,
  }
  const db = { query: async ({ name }: { name: string }) => rows[name] ?? [] } as unknown as Db
  const scale = createScale({
    db,
    limitsOf: () => ({ ...NO_LIMITS, ...figures.limits, version: 0 }),
    config: parseConfig({ WORKER_CONCURRENCY: '100', BATCH_CONCURRENCY: '50' }),
    now: () => now,
  })
  return {
    usable: async () => (await scale.read()).get('default')!.usableSlots,
    async workers(queues = ['default', 'moderate']) {
      now += 2000
      const all = await scale.read()
      return scale.workersFor([...all.values()].filter(one => queues.includes(one.queue)))
    },
  }
}

const both = ['default', 'moderate']

it('a fleet that runs two queues in the same workers keeps its size', async () => {
  const scale = scaleOf({
    capacity: [{ queues: both, workers: 10, slots: 1000 }],
    running: [{ queue: 'default', running: 800 }],
  })
  for (let n = 0; n < 20; n++) expect(await scale.workers()).toBe(10)
})

it('an idle fleet keeps its size until the hold is over', async () => {
  const scale = scaleOf({ capacity: [{ queues: [...both, 'batch'], workers: 3, slots: 300 }] })
  for (let n = 0; n < 20; n++) expect(await scale.workers([...both, 'batch'])).toBe(3)
  for (let n = 0; n < 20; n++) await scale.workers()
  expect(await scale.workers()).toBe(0)
})

it('workers count for their own queue if each queue has its own', async () => {
  const scale = scaleOf({
    capacity: [
      { queues: ['default'], workers: 4, slots: 400 },
      { queues: ['moderate'], workers: 2, slots: 200 },
      { queues: ['batch'], workers: 3, slots: 300 },
    ],
    running: [{ queue: 'moderate', running: 10 }],
  })
  expect(await scale.workers(['default'])).toBe(4)
  expect(await scale.workers(['moderate'])).toBe(2)
  expect(await scale.workers(['batch'])).toBe(3)
})

it('the limits of a model count once, whatever names are called', async () => {
  const row = { kind: 'generate', provider: 'anthropic', calls: 50, answered: 50, broken_since: 0, span_seconds: 60 }
  const calls = ['claude-sonnet-5-5', 'claude-sonnet-5-5-20261001'].map(model => ({
    ...row,
    model,
    call_seconds: 1,
    input_tokens: 1,
    output_tokens: 1,
  }))
  expect(await scaleOf({ calls, limits: { concurrency: 10 } }).usable()).toBe(10)
})

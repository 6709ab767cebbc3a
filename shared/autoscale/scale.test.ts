import { expect, it } from 'vitest'
import { parseConfig } from '#shared/config.ts'
import type { Calls, Capacity, Running } from '#shared/db/load.ts'
import type { Db } from '#shared/db/pool.ts'
import { type Limits, NO_LIMITS } from '#shared/db/provider-limits.ts'
import { createScale } from './scale.ts'

/** What a process that has just started answers, on these figures of Postgres. */
function scaleOf(figures: { capacity?: Capacity[]; running?: Running[]; calls?: Calls[]; limits?: Partial<Limits> }) {
  let now = 0
  const rows: Record<string, unknown[] | undefined> = {
    load_capacity: figures.capacity,
    load_running: figures.running,
    load_calls: figures.calls,
  }
  const db = { query: async ({ name }: { name: string }) => rows[name] ?? [] } as unknown as Db
  const scale = createScale({
    db,
    limitsOf: () => ({ ...NO_LIMITS, ...figures.limits, version: 0 }),
    config: parseConfig({ WORKER_CONCURRENCY: '100', BATCH_CONCURRENCY: '50' }),
    now: () => now,
  })
  return {
    usable: async () => (await scale.look()).get('default')!.usableSlots,
    async workers(queues = ['default', 'moderate']) {
      now += 2000
      const all = await scale.look()
      return scale.workersFor([...all.values()].filter(one => queues.includes(one.queue)))
    },
  }
}

const both = ['default', 'moderate']

it('leaves a fleet as it is that runs two queues in the same workers', async () => {
  const scale = scaleOf({
    capacity: [{ queues: both, workers: 10, slots: 1000 }],
    running: [{ queue: 'default', running: 800 }],
  })
  for (let n = 0; n < 20; n++) expect(await scale.workers()).toBe(10)
})

it('leaves a fleet as it is that does nothing, until the time to hold is over', async () => {
  const scale = scaleOf({ capacity: [{ queues: [...both, 'batch'], workers: 3, slots: 300 }] })
  for (let n = 0; n < 20; n++) expect(await scale.workers([...both, 'batch'])).toBe(3)
  for (let n = 0; n < 20; n++) await scale.workers()
  expect(await scale.workers()).toBe(0)
})

it('counts the workers of each queue for what they are, where each has its own', async () => {
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

it('counts the limits of a model once, by however many names it is called', async () => {
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

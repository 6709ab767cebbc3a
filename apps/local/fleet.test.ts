import { expect, test } from 'vitest'
import { type Config, parseConfig } from '#shared/config.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import { mostConnections, poolSpecs, slotsFor } from './fleet.ts'

const config = (env: Record<string, string> = {}): Config => parseConfig(env)
const SINGLE = QUEUES.filter(queue => queue !== 'batch')

test('batches have processes of their own, and every queue is worked off', () => {
  const [workers, batches, ...others] = poolSpecs(
    config({ WORKER_CONCURRENCY: '20', WORKER_CONCURRENCY_MAX: '60', BATCH_CONCURRENCY: '30' }),
    4,
  )
  expect(workers).toEqual({
    name: 'worker',
    queues: SINGLE,
    args: ['--queues', SINGLE.join(',')],
    bounds: { min: 1, max: 4, tasks: { min: 20, max: 60 } },
  })
  expect(batches).toEqual({
    name: 'batch worker',
    queues: ['batch'],
    args: ['--queues', 'batch'],
    bounds: { min: 1, max: 4, tasks: { min: 30, max: 30 } },
  })
  expect(others).toEqual([])
})

test('without processes for batches the others run their lines', () => {
  expect(poolSpecs(config({ BATCH_PROCESSES: '0' }), 4)).toMatchObject([{ name: 'worker', queues: QUEUES, args: [] }])
})

test.each<[what: string, env: Record<string, string>, bounds: object]>([
  ['as many as there are cores', {}, { min: 1, max: 8 }],
  ['WORKERS_MAX', { WORKERS_MAX: '3' }, { min: 1, max: 3 }],
  ['WORKERS_MIN, if that is more', { WORKERS_MIN: '12' }, { min: 12, max: 12 }],
  ['none, if they run elsewhere', { WORKERS_MIN: '0', WORKERS_MAX: '5' }, { min: 0, max: 0 }],
])('there are at most %s', (_, env, bounds) => {
  expect(poolSpecs(config(env), 8)[0]).toMatchObject({ bounds })
})

const scales = (slots: Partial<Record<QueueName, number>>) =>
  new Map(Object.entries(slots).map(([queue, slots]) => [queue as QueueName, { slots }]))

test('a pool has the slots of its queues', () => {
  const [first, second] = SINGLE as [QueueName, QueueName]
  const all = scales({ [first]: 30, [second]: 12, batch: 50 })
  expect(slotsFor(SINGLE, all, config())).toBe(42)
  expect(slotsFor(['batch'], all, config())).toBe(50)
  expect(slotsFor(SINGLE, scales({}), config())).toBe(0)
})

test('where tasks and lines share processes there are as many as either needs', () => {
  const env = config({ WORKER_CONCURRENCY: '20', WORKER_CONCURRENCY_MAX: '60', BATCH_CONCURRENCY: '25' })
  const processes = (tasks: number, lines: number) =>
    Math.ceil(slotsFor(QUEUES, scales({ [SINGLE[0]!]: tasks, batch: lines }), env) / 60)
  expect(processes(60, 25)).toBe(1)
  expect(processes(61, 25)).toBe(2)
  expect(processes(10, 26)).toBe(2)
  expect(processes(10, 75)).toBe(3)
  expect(processes(181, 75)).toBe(4)
  expect(slotsFor(QUEUES, scales({ [SINGLE[0]!]: 33, batch: 10 }), env)).toBe(33)
})

test('connections are counted for both pools at their greatest, the API and one in another’s place', () => {
  expect(mostConnections(config({ DB_POOL: '10' }), 20)).toBe((20 + 20 + 2) * 10 + 12)
  expect(mostConnections(config({ WORKERS_MIN: '0', BATCH_PROCESSES: '0', DB_POOL: '5' }), 20)).toBe(2 * 5 + 12)
})

import { expect, test } from 'vitest'
import { type Config, parseConfig } from '#shared/config.ts'
import { QUEUES } from '#shared/queue/names.ts'
import { mostConnections, poolSpecs } from './fleet.ts'

const config = (env: Record<string, string> = {}): Config => parseConfig(env)
const SINGLE = QUEUES.filter(queue => queue !== 'batch')

test('batches have processes of their own, and every queue is served', () => {
  expect(poolSpecs(config(), 4)).toEqual([
    { name: 'worker', queues: SINGLE, args: ['--queues', SINGLE.join(',')], min: 1, max: 4 },
    { name: 'batch worker', queues: ['batch'], args: ['--queues', 'batch'], min: 1, max: 4 },
  ])
})

test('without processes for batches the other workers run their lines', () => {
  expect(poolSpecs(config({ BATCH_PROCESSES: '0' }), 4)).toMatchObject([{ name: 'worker', queues: QUEUES, args: [] }])
})

test.each<[limit: string, env: Record<string, string>, bounds: object]>([
  ['the number of cores', {}, { min: 1, max: 8 }],
  ['WORKERS_MAX', { WORKERS_MAX: '3' }, { min: 1, max: 3 }],
  ['WORKERS_MIN, if it is higher', { WORKERS_MIN: '12' }, { min: 12, max: 12 }],
  ['zero, if workers run elsewhere', { WORKERS_MIN: '0', WORKERS_MAX: '5' }, { min: 0, max: 0 }],
])('the maximum number of workers is %s', (_, env, bounds) => {
  expect(poolSpecs(config(env), 8)[0]).toMatchObject(bounds)
})

test('connections suffice for both pools at their maximum, the API and a worker that leaves', () => {
  expect(mostConnections(config({ DB_POOL: '10' }), 20)).toBe((20 + 20 + 2) * 10 + 12)
  expect(mostConnections(config({ WORKERS_MIN: '0', BATCH_PROCESSES: '0', DB_POOL: '5' }), 20)).toBe(2 * 5 + 12)
})

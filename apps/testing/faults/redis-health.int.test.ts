import { expect, onTestFinished, test, vi } from 'vitest'
import type { Server } from '#apps/local/process.ts'
import { startRedis } from '#apps/local/redis.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createLogger } from '#shared/process/logger.ts'
import type { Redis } from '#shared/redis/connect.ts'
import { watchRedis } from '#shared/redis/health.ts'
import { testPrefix } from '#shared/testing/database.ts'
import { keysLike, testRedis } from '#shared/testing/redis.ts'
import { stopAfterTest, temporaryDirectory } from '../setup/temporary.ts'

const PARTS = ['a', 'b', 'c']
type Line = { level: string; msg: string; state?: string }

async function watched(name: 'queue' | 'cache' = 'queue') {
  const server = stopAfterTest(await startRedis({ dir: temporaryDirectory(), role: name }))
  const owner = await testRedis('fast', server.url)
  const redis = await testRedis('fast', server.url)
  const lines: Line[] = []
  const logger = createLogger({ level: 'info', name: 'test' }, { write: line => void lines.push(JSON.parse(line)) })
  const prefix = testPrefix()
  const metrics = createMetrics('api')
  const health = watchRedis({ name, redis, prefixes: PARTS.map(part => `${prefix}:${part}`), metrics, logger })
  onTestFinished(() => health.stop())
  const writable = async () => (await metrics.redisWritable.get()).values[0]?.value
  return { server, owner, redis, lines, prefix, health, writable }
}

const becomes = (health: { state(): Promise<string> }, state: string) =>
  vi.waitFor(async () => expect(await health.state()).toBe(state), { timeout: 30_000, interval: 100 })

const WRONG: [
  state: string,
  writable: 0 | 1,
  setUp: (owner: Redis, server: Server) => Promise<unknown>,
  mend: (owner: Redis) => Promise<unknown>,
][] = [
  ['readonly', 0, (owner, { port }) => owner.replicaof('127.0.0.1', port), owner => owner.replicaof('NO', 'ONE')],
  ['full', 0, owner => owner.config('SET', 'maxmemory', '1'), owner => owner.config('SET', 'maxmemory', '0')],
  [
    'too few replicas',
    0,
    owner => owner.config('SET', 'min-replicas-to-write', '1'),
    owner => owner.config('SET', 'min-replicas-to-write', '0'),
  ],
]

test.each(WRONG)(
  'a Redis that is %s is logged once, and once more after it has recovered',
  async (state, writable, setUp, mend) => {
    const { owner, server, lines, health, ...world } = await watched()
    await becomes(health, 'ok')
    expect(await world.writable()).toBe(1)
    await setUp(owner, server)
    await becomes(health, state)
    expect(await world.writable()).toBe(writable)
    await mend(owner)
    await becomes(health, 'ok')
    expect(await world.writable()).toBe(1)
    const logged = lines.filter(line => line.msg.includes('healthy'))
    expect(logged).toMatchObject([{ level: 'error', state }, { level: 'info' }])
  },
)

test.each(['allkeys-lru', 'volatile-ttl'])(
  'a queue Redis that may evict (%s) is degraded, a cache Redis is not',
  async policy => {
    for (const [name, state] of [
      ['queue', 'evicts: maxmemory-policy is not noeviction'],
      ['cache', 'ok'],
    ] as const) {
      const { owner, health, writable, redis } = await watched(name)
      await owner.config('SET', 'maxmemory-policy', policy)
      await becomes(health, state)
      expect(await writable()).toBe(1)
      const gone = new Promise(done => redis.once('end', done))
      redis.disconnect()
      await gone
      expect(await health.state()).toBe('unavailable')
    }
  },
)

test('requests within a second share one probe, whose keys expire', async () => {
  const { owner, health, prefix } = await watched()
  await becomes(health, 'ok')
  const writes = async () => Number(/cmdstat_set:calls=(\d+)/.exec(await owner.info('commandstats'))?.[1])
  const before = await writes()
  await Promise.all(Array.from({ length: 200 }, () => health.state()))
  // A second may have begun meanwhile.
  expect((await writes()) - before).toBeLessThanOrEqual(2 * PARTS.length)
  const keys = await keysLike(owner, `*${prefix}*`)
  expect(keys).toHaveLength(PARTS.length)
  for (const key of keys) expect(await owner.pttl(key)).toBeGreaterThan(0)
})

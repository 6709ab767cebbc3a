import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { pino } from 'pino'
import { startPostgres } from '#apps/local/postgres.ts'
import { startRedis } from '#apps/local/redis.ts'
import { migrate } from '#shared/db/migrate.ts'
import { closeRedis, connectRedis, type Redis } from '#shared/redis/connect.ts'
import { type Closers, restartable, serverDirectory } from '../setup/servers.ts'
import type { Random } from './random.ts'
import { startRedisPair } from './redis-pair.ts'

export type Servers = Awaited<ReturnType<typeof startServers>>
export type Sql = <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>

/** Postgres and the two Redis as `npm start` runs them. */
export async function startServers(closers: Closers) {
  const { dir, held } = serverDirectory(closers, 'chaos')
  const [postgres, redis, cache] = await Promise.all([
    // Durable, because the run checks which data survive when it is killed.
    restartable(port => startPostgres({ dir: join(dir, 'postgres'), port }), closers),
    startRedisPair(join(dir, 'redis'), closers),
    restartable(port => startRedis({ dir: join(dir, 'cache'), role: 'cache', maxMemoryMb: 32, port }), closers),
  ])
  await migrate(postgres.url)
  const pool = new pg.Pool({ connectionString: postgres.url, max: 4, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  closers.push(() => pool.end())
  const sql: Sql = async (text, values = []) => (await pool.query(text, values)).rows
  return { postgres, redis, cache, held, sql }
}

/** Repeats `work` while Postgres is down. @returns null if that lasts longer than `forMs` */
export async function patiently<T>(work: () => Promise<T>, forMs: number): Promise<T | null> {
  const until = performance.now() + forMs
  for (;;) {
    const done = await work().then(
      value => ({ value }),
      () => null,
    )
    if (done) return done.value
    if (performance.now() > until) return null
    await delay(200)
  }
}

export const flush = (url: string): Promise<unknown> => onRedis(url, redis => redis.flushall())

/** Collections of BullMQ and keys of the gate, each of which can be lost without the rest. */
const PARTS = ['wait', 'prioritized', 'delayed', 'active', 'marker', 'meta', 'state', 'leases', 'line', 'sweep']

/** Deletes the keys with these last parts, like an eviction: other keys still refer to them. */
export const losePart = (url: string, parts: string[]): Promise<unknown> =>
  onRedis(url, async redis => {
    for (const part of parts) for (const key of await redis.keys(`*:${part}`)) await redis.del(key)
  })

export const pickParts = (random: Random): string[] => random.shuffled(PARTS).slice(0, random.int(1, 5))

async function onRedis<T>(url: string, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = connectRedis({ url, role: 'blocking', name: 'chaos', logger: pino({ level: 'silent' }) })
  try {
    return await work(redis)
  } finally {
    closeRedis(redis)
  }
}

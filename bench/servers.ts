import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { type Child as LocalChild, startChild } from '#apps/local/child.ts'
import { startPostgres } from '#apps/local/postgres.ts'
import { startRedis } from '#apps/local/redis.ts'
import { nodeFlags } from '#apps/local/start.ts'
import { type Closers, closeAll, serverDirectory } from '#apps/testing/setup/servers.ts'
import { migrate } from '#shared/db/migrate.ts'
import { closeRedis, connectRedis } from '#shared/redis/connect.ts'

const root = new URL('..', import.meta.url).pathname
export const ADMIN_KEY = 'sk-bench-0123456789012345678901234567890123456789'

const DRAIN_MS = 60_000

/** `rssMb`: resident memory, MB. */
export type Child = LocalChild & { rssMb(): number }

/** The servers of a bench on this machine: real Postgres (durable), real Redis, the fake upstream, our processes. */
export type Servers = {
  databaseUrl: string
  upstreamUrl: string
  /** Starts a process of ours and waits until it serves. */
  start(script: string, env?: Record<string, string>, args?: string[]): Promise<Child>
  /** Starts Node with these arguments. */
  startScript(args: string[], env: Record<string, string>): Promise<Child>
  /** Deletes all tasks, between two parts of the bench. Our processes must have stopped. */
  clear(): Promise<void>
  /** Memory of the queue's Redis, MB. */
  redisMb(): Promise<number>
  stop(): Promise<void>
}

export async function startServers(): Promise<Servers> {
  const closers: Closers = []
  const { dir, held } = serverDirectory(closers, 'bench')
  const children = new Set<LocalChild>()
  const [postgres, redis, cache] = await Promise.all([
    startPostgres({ dir: join(dir, 'postgres') }),
    startRedis({ dir: join(dir, 'redis'), role: 'queue' }),
    startRedis({ dir: join(dir, 'cache'), role: 'cache' }),
  ])
  await migrate(postgres.url)

  /** Our processes run as `npm start` runs them. */
  const start = (script: string, env: Record<string, string> = {}, args: string[] = []): Promise<Child> =>
    startScript([...(/main\.ts$/.test(script) ? nodeFlags(script) : []), join(root, script), ...args], env)

  async function startScript(args: string[], env: Record<string, string>): Promise<Child> {
    const child = await startChild({
      args,
      cwd: root,
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: postgres.url,
        REDIS_URL: redis.url,
        CACHE_REDIS_URL: cache.url,
        ADMIN_KEY,
        PORT: '0',
        WORKER_PORT: '0',
        LOG_LEVEL: 'silent',
        ...(process.env.BENCH_NODE_OPTIONS && { NODE_OPTIONS: process.env.BENCH_NODE_OPTIONS }),
        ...env,
      },
      drainMs: DRAIN_MS,
      held,
    })
    children.add(child)
    return {
      ...child,
      rssMb: () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024,
      async stop() {
        children.delete(child)
        await child.stop()
      },
    }
  }

  const observer = connectRedis({ url: redis.url, role: 'blocking', name: 'bench', logger: pino({ level: 'silent' }) })
  const upstream = await start('bench/upstream.ts')
  return {
    databaseUrl: postgres.url,
    upstreamUrl: `http://127.0.0.1:${upstream.port}`,
    start,
    startScript,
    async clear() {
      const client = new pg.Client({ connectionString: postgres.url })
      await client.connect()
      await client.query(
        'TRUNCATE tasks, attempts, idempotency_keys, budgets, budget_windows, cost_rollups, gates, provider_limits, batches, batch_chunks, files, file_chunks',
      )
      await client.end()
      for (const { url } of [redis, cache]) {
        const flush = connectRedis({ url, role: 'blocking', name: 'bench', logger: pino({ level: 'silent' }) })
        await flush.flushall()
        closeRedis(flush)
      }
    },
    async redisMb() {
      return Number(/^used_memory:(\d+)/m.exec(await observer.info('memory'))![1]) / 1e6
    },
    async stop() {
      closeRedis(observer)
      for (const child of children) child.kill()
      await Promise.all([postgres.stop(), redis.stop(), cache.stop()])
      await closeAll(closers)
    },
  }
}

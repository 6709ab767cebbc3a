import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { startPostgres } from '#apps/local/postgres.ts'
import { startRedis } from '#apps/local/redis.ts'
import { nodeFlags } from '#apps/local/start.ts'
import { migrate } from '#shared/db/migrate.ts'
import { closeRedis, connectRedis } from '#shared/redis.ts'

const root = new URL('..', import.meta.url).pathname
export const ADMIN_KEY = 'sk-bench-0123456789012345678901234567890123456789'

export type Child = { pid: number; port: number; rssMb(): number; stop(): Promise<void> }

/** Everything that a bench needs, on this machine: real Postgres (durable), real Redis, the fake upstream, our processes. */
export type Servers = {
  databaseUrl: string
  upstreamUrl: string
  /** Starts a process of ours and waits until it serves. */
  start(script: string, env?: Record<string, string>, args?: string[]): Promise<Child>
  /** Forgets all tasks, between one part and the next. Our processes must be stopped. */
  clear(): Promise<void>
  /** What the queue's Redis holds. */
  redisMb(): Promise<number>
  stop(): Promise<void>
}

export async function startServers(): Promise<Servers> {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-bench-'))
  chmodSync(dir, 0o711)
  const children = new Set<ChildProcess>()
  const [postgres, redis, cache] = await Promise.all([
    startPostgres({ dir: join(dir, 'postgres') }),
    startRedis({ dir: join(dir, 'redis'), role: 'queue' }),
    startRedis({ dir: join(dir, 'cache'), role: 'cache' }),
  ])
  await migrate(postgres.url)

  async function start(script: string, env: Record<string, string> = {}, args: string[] = []): Promise<Child> {
    const child = fork(join(root, script), args, {
      // Ours run as `npm start` runs them.
      execArgv: /main\.ts$/.test(script) ? nodeFlags(script) : [],
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: postgres.url,
        REDIS_URL: redis.url,
        CACHE_REDIS_URL: cache.url,
        ADMIN_KEY,
        PORT: '0',
        WORKER_PORT: '0',
        LOG_LEVEL: 'warn',
        ...(process.env.BENCH_NODE_OPTIONS && { NODE_OPTIONS: process.env.BENCH_NODE_OPTIONS }),
        ...env,
      },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    children.add(child)
    const [message] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => Promise.reject(new Error(`${script} exited with ${code}`))),
    ])) as [{ port: number }]
    return {
      pid: child.pid!,
      port: message.port,
      rssMb: () => Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1024,
      async stop() {
        children.delete(child)
        if (child.exitCode !== null || child.signalCode !== null) return
        child.kill('SIGTERM')
        await once(child, 'exit')
      },
    }
  }

  const looker = connectRedis({ url: redis.url, role: 'blocking', name: 'bench', logger: pino({ level: 'silent' }) })
  const upstream = await start('bench/upstream.ts')
  return {
    databaseUrl: postgres.url,
    upstreamUrl: `http://127.0.0.1:${upstream.port}`,
    start,
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
      return Number(/^used_memory:(\d+)/m.exec(await looker.info('memory'))![1]) / 1e6
    },
    async stop() {
      closeRedis(looker)
      for (const child of children) child.kill('SIGKILL')
      await Promise.all([postgres.stop(), redis.stop(), cache.stop()])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

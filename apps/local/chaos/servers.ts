import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { pino } from 'pino'
import { migrate } from '#shared/db/migrate.ts'
import { closeRedis, connectRedis } from '#shared/redis.ts'
import { startPostgres } from '../postgres.ts'
import { freePort, type Server, signalIfAlive } from '../process.ts'
import { startRedis } from '../redis.ts'
import { startWatchdog } from '../watchdog.ts'

/** A server that can be killed and comes back at its old address. */
export type Killable = {
  readonly url: string
  readonly up: boolean
  /** kill -9, children too; resolves when it is gone. */
  kill(): Promise<void>
  /** Nothing if it runs. */
  start(): Promise<void>
}

export type Servers = Awaited<ReturnType<typeof startServers>>
export type Closers = (() => unknown)[]
export type Sql = <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => Promise<Row[]>

/** Postgres and the two Redis as `npm start` runs them, in a directory that is gone in the end, whatever happens to us. */
export async function startServers(closers: Closers) {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-chaos-'))
  // Root's Postgres runs as another user, who must pass through.
  chmodSync(dir, 0o711)
  const pidFiles = ['postgres/data/postmaster.pid', 'redis/redis.pid', 'cache/redis.pid'].map(file => join(dir, file))
  const watchdog = startWatchdog({ pidFiles, remove: dir })
  closers.push(() => {
    watchdog.dismiss()
    rmSync(dir, { recursive: true, force: true })
  })
  const [postgres, redis, cache] = await Promise.all([
    // Durable, as what it loses when it is killed is what is being looked for.
    killable(port => startPostgres({ dir: join(dir, 'postgres'), port }), closers),
    killable(port => startRedis({ dir: join(dir, 'redis'), role: 'queue', port }), closers),
    killable(port => startRedis({ dir: join(dir, 'cache'), role: 'cache', maxMemoryMb: 32, port }), closers),
  ])
  await migrate(postgres.url)
  const pool = new pg.Pool({ connectionString: postgres.url, max: 4, connectionTimeoutMillis: 5000 })
  pool.on('error', () => {})
  closers.push(() => pool.end())
  const sql: Sql = async (text, values = []) => (await pool.query(text, values)).rows
  return { postgres, redis, cache, held: watchdog.held, sql }
}

/** Repeats what Postgres, when it is the one that is down, cannot do now. @returns null if that lasts for too long */
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

async function killable(starter: (port: number) => Promise<Server>, closers: Closers): Promise<Killable> {
  const first = await starter(await freePort())
  let server = first
  let up = true
  let starting: Promise<void> | null = null
  closers.push(async () => {
    await starting
    await server.stop()
  })
  return {
    url: first.url,
    get up() {
      return up
    },
    async kill() {
      up = false
      // Together: backends that outlive their postmaster would end in good order.
      for (const pid of [server.pid, ...childrenOf(server.pid)]) signalIfAlive(pid, 'SIGKILL')
      await server.exited
    },
    async start() {
      if (up) return
      starting = starter(first.port).then(next => {
        server = next
        up = true
      })
      await starting
    },
  }
}

function childrenOf(pid: number): number[] {
  try {
    const pids = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return pids.trim().split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

export async function flush(url: string): Promise<void> {
  const redis = connectRedis({ url, role: 'blocking', name: 'chaos', logger: pino({ level: 'silent' }) })
  try {
    await redis.flushall()
  } finally {
    closeRedis(redis)
  }
}

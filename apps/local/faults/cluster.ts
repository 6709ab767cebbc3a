import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { inject } from 'vitest'
import { migrate } from '#shared/db/migrate.ts'
import { fromWire } from '#shared/ids.ts'
import { createLogger } from '#shared/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { createTestDatabase, testPrefix } from '#shared/testing/database.ts'
import { forgetKeys, keysLike } from '#shared/testing/redis.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { type Child, startChild } from '../child.ts'
import { startPostgres } from '../postgres.ts'
import { freePort, type Server, signalIfAlive } from '../process.ts'
import { startRedis } from '../redis.ts'
import { startWatchdog } from '../watchdog.ts'
import { type Client, createClient } from './client.ts'

/** Real API and worker processes for the tests of faults, over a database and a Redis prefix of their own. */

export const ROOT = resolve(import.meta.dirname, '../../..')
export const ADMIN_KEY = 'sk-sluice-tests-of-faults-admin'

/** Only what never comes takes as long. */
const PATIENCE_MS = 100_000

/** For `vi.setConfig`: upper bounds that only a test that hangs reaches. */
export const PATIENT = { testTimeout: 240_000, hookTimeout: 240_000 }

/** Dollars per million tokens, read or written. */
const PRICE = { input: 1, output: 1 }
const TEST_MODEL = 'test-'

/**
 * A model that every provider has. Gates, breakers, pauses, limits and scores are each model's own: tests with a model of
 * their own do not disturb each other.
 */
export const modelOf = (name: string) => `${TEST_MODEL}${name}`

export type Env = Record<string, string>

export type ClusterOptions = {
  apis?: number
  workers?: number
  /** For all processes. */
  env?: Env
  /** Servers of the cluster's own, to be killed or flushed, instead of the ones that all tests share. */
  own?: ('postgres' | 'redis')[]
  /** Also configures OpenAI, served by `openai`. */
  openai?: boolean
}

/** A server that can be killed and comes back at its old address. */
export type Restartable = {
  readonly url: string
  /** kill -9; resolves when it is gone. */
  kill(): Promise<void>
  /** Nothing if it runs. */
  start(): Promise<void>
}

export type Attempt = { worker_id: string; provider: string; outcome: string; n: number }

export type Cluster = Awaited<ReturnType<typeof startCluster>>

/** Waits until `condition` gives something; what it throws is thrown. The bound is for a test that would hang. */
export async function until<T>(
  what: string,
  condition: () => Promise<T | false | null | undefined> | T | false | null | undefined,
): Promise<T> {
  const deadline = Date.now() + PATIENCE_MS
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`gave up waiting until ${what}`)
    await delay(50)
  }
}

/** Rejects instead of waiting for ever for something that a broken program never does. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  const cancel = new AbortController()
  const late = delay(PATIENCE_MS, undefined, { signal: cancel.signal }).then(() => {
    throw new Error(`gave up waiting until ${what}`)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    late.catch(() => {})
    cancel.abort()
  }
}

export async function startCluster(options: ClusterOptions = {}) {
  const closers: (() => unknown)[] = []
  const close = async () => {
    for (let closer = closers.pop(); closer; closer = closers.pop()) await closer()
  }
  try {
    return { ...(await start(options, closers)), close }
  } catch (error) {
    await close()
    throw error
  }
}

async function start(options: ClusterOptions, closers: (() => unknown)[]) {
  const own = new Set(options.own)
  const postgres = own.has('postgres') ? await ownPostgres(closers) : null
  const redis = own.has('redis') ? await ownRedis(closers) : null
  const databaseUrl = postgres?.url ?? (await clone(closers))
  const redisUrl = redis?.url ?? inject('redisUrl')
  const prefix = testPrefix()
  const upstream = await startUpstream()
  closers.push(() => upstream.close())
  const openai = await startUpstream()
  closers.push(() => openai.close())

  const pool = new pg.Pool({ connectionString: databaseUrl, max: 4, connectionTimeoutMillis: 60_000 })
  pool.on('error', () => {})
  closers.push(() => pool.end())
  const sql = async <Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) =>
    (await pool.query<Row>(text, values)).rows

  const env: Record<string, string | undefined> = {
    PATH: process.env.PATH,
    DATABASE_URL: databaseUrl,
    REDIS_URL: redisUrl,
    REDIS_PREFIX: prefix,
    ADMIN_KEY,
    PORT: '0',
    WORKER_PORT: '0',
    DB_POOL: '5',
    LOG_LEVEL: process.env.FAULTS_LOG ?? 'silent',
    BACKOFF_BASE_MS: '10',
    BACKOFF_MAX_MS: '50',
    // What listens on this machine is none of the tests' business.
    PROVIDERS: options.openai ? 'anthropic,openai' : 'anthropic',
    ANTHROPIC_API_KEY: 'key-anthropic',
    ANTHROPIC_BASE_URL: upstream.url,
    PRICES: JSON.stringify(Object.fromEntries(['anthropic', 'openai'].map(name => [`${name}/${TEST_MODEL}*`, PRICE]))),
    ...(options.openai && { OPENAI_API_KEY: 'key-openai', OPENAI_BASE_URL: `${openai.url}/v1` }),
    ...options.env,
  }
  const children = new Set<Child>()
  closers.push(async () => {
    // A stopped process (SIGSTOP) dies of SIGKILL all the same.
    for (const child of children) child.kill()
    await Promise.all([...children].map(child => child.exited))
  })
  const launch = async (entry: string, more: Env) => {
    const args = [join(ROOT, entry)]
    const child = await startChild({ args, cwd: ROOT, env: { ...env, ...more }, drainMs: 20_000 })
    children.add(child)
    return child
  }

  const startApi = async (more: Env = {}): Promise<Api> => {
    const child = await launch('apps/api/main.ts', more)
    return Object.assign(child, createClient(`http://127.0.0.1:${child.port}`, ADMIN_KEY))
  }
  const startWorker = async (more: Env = {}): Promise<WorkerProcess> => {
    const child = await launch('workers/main.ts', more)
    const [row] = await sql<{ id: string }>('SELECT id FROM workers WHERE pid = $1', [child.pid])
    return Object.assign(child, { id: row!.id })
  }
  const [apis, workers] = await Promise.all([
    Promise.all(Array.from({ length: options.apis ?? 1 }, () => startApi())),
    Promise.all(Array.from({ length: options.workers ?? 1 }, () => startWorker())),
  ])

  return {
    upstream,
    openai,
    apis,
    /** The first one: most tests need no other. */
    api: apis[0]!,
    workers,
    startApi,
    startWorker,
    postgres,
    redis,
    /** What all processes get. */
    env,
    databaseUrl,
    redisUrl,
    prefix,
    sql,
    /** Resolves when none of the tasks is queued or running any more. */
    ended: (ids: string[]) =>
      until(`${ids.length} tasks have ended`, async () => {
        const live = `SELECT 1 FROM tasks WHERE id = ANY($1) AND status IN ('queued', 'running') LIMIT 1`
        // Postgres may be what the test kills.
        const rows = await sql(live, [ids.map(uuidOf)]).catch(() => null)
        return rows?.length === 0
      }),
    /** Resolves when attempt `n` of the task has an outcome. */
    settled: (id: string, n: number) =>
      until(`attempt ${n} is settled`, async () => {
        const open = `SELECT 1 FROM attempts WHERE task_id = $1 AND n = $2 AND outcome <> 'started'`
        return (await sql(open, [uuidOf(id), n])).length === 1
      }),
    count: async (from: string): Promise<number> =>
      (await sql<{ count: number }>(`SELECT count(*)::int AS count FROM ${from}`))[0]!.count,
    attempts: (id: string) =>
      sql<Attempt>(`SELECT n, worker_id, provider, outcome FROM ${CALLS} WHERE task_id = $1 ORDER BY n`, [uuidOf(id)]),
    /** Before a test: what the ones before it made the upstreams do, and the gates think of them, is forgotten. */
    async begin(): Promise<void> {
      upstream.reset()
      openai.reset()
      const logger = createLogger({ level: 'silent', name: 'test' })
      const client = connectRedis({ url: redisUrl, role: 'blocking', name: 'test', logger })
      await client.ping()
      await forgetKeys(client, await keysLike(client, `*${prefix}:gate*`))
      closeRedis(client)
      await sql('DELETE FROM gates')
    },
    /** A worker that was killed or stopped counts as dead at once, instead of after ten seconds without a beat. */
    presumeDead: (worker: { id: string }) =>
      sql(`UPDATE workers SET beat_at = beat_at - interval '1 minute' WHERE id = $1`, [worker.id]),
  }
}

export type Api = Child & Client
export type WorkerProcess = Child & { id: string }

/** The id in the database of an id on the wire. */
export const uuidOf = (wireId: string): string => fromWire('task', wireId)!

/** Calls by marker of those that were not made exactly `times`. */
export function countedOtherThan(upstream: Upstream, markers: string[], times: number): Record<string, number> {
  const counted = upstream.markers() as Record<string, number>
  return Object.fromEntries(markers.map(name => [name, counted[name] ?? 0] as const).filter(([, n]) => n !== times))
}

/** `<name>-0`, `<name>-1` …, each to be put in double brackets into a prompt. */
export const markers = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${name}-${index}`)

async function clone(closers: (() => unknown)[]): Promise<string> {
  const database = await createTestDatabase()
  closers.push(() => database.drop())
  return database.url
}

/** A directory that is gone in the end, with the server in it even if the tests are killed. */
function serverDirectory(pidFile: string, closers: (() => unknown)[]): string {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-test-'))
  // Root's Postgres runs as another user, who must pass through.
  chmodSync(dir, 0o711)
  const watchdog = startWatchdog({ pidFiles: [join(dir, pidFile)], remove: dir })
  closers.push(() => {
    watchdog.dismiss()
    rmSync(dir, { recursive: true, force: true })
  })
  return dir
}

async function restartable(starter: (port: number) => Promise<Server>, closers: (() => unknown)[]) {
  let server = await starter(await freePort())
  let up = true
  closers.push(() => server.stop())
  return {
    url: server.url,
    async kill() {
      up = false
      signalIfAlive(server.pid, 'SIGKILL')
      await server.exited
    },
    async start() {
      if (!up) server = await starter(server.port)
      up = true
    },
  } satisfies Restartable
}

async function ownPostgres(closers: (() => unknown)[]): Promise<Restartable> {
  const dir = join(serverDirectory('postgres/data/postmaster.pid', closers), 'postgres')
  // Durable: what it loses when it is killed is what is being tested.
  const postgres = await restartable(port => startPostgres({ dir, port }), closers)
  await migrate(postgres.url)
  return postgres
}

const ownRedis = (closers: (() => unknown)[]): Promise<Restartable> => {
  const dir = serverDirectory('redis.pid', closers)
  return restartable(port => startRedis({ dir, role: 'queue', port }), closers)
}

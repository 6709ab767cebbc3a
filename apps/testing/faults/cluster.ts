import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { inject } from 'vitest'
import { type Child, startChild } from '#apps/local/child.ts'
import { startPostgres } from '#apps/local/postgres.ts'
import { startRedis } from '#apps/local/redis.ts'
import { migrate } from '#shared/db/migrate.ts'
import { fromWire } from '#shared/ids.ts'
import { createLogger } from '#shared/process/logger.ts'
import { closeRedis, connectRedis } from '#shared/redis/connect.ts'
import { CALLS } from '#shared/testing/attempts.ts'
import { createTestDatabase, testPrefix } from '#shared/testing/database.ts'
import { forgetKeys, keysLike } from '#shared/testing/redis.ts'
import { startUpstream, type Upstream } from '#shared/testing/upstream.ts'
import { type Closers, closeAll, type Restartable, restartable, serverDirectory } from '../setup/servers.ts'
import { type Client, createClient } from './client.ts'

/** Real API and worker processes for the fault tests, with a database and a Redis prefix of their own. */

export const ROOT = resolve(import.meta.dirname, '../../..')
export const ADMIN_KEY = 'sk-sluice-tests-of-faults-admin'

/** Upper bound of a wait, which only a failing test reaches. */
const PATIENCE_MS = 100_000

/** For `vi.setConfig`: upper bounds that only a test that hangs reaches. */
export const PATIENT = { testTimeout: 240_000, hookTimeout: 240_000 }

/** Dollars per million tokens, input and output. */
const PRICE = { input: 1, output: 1 }
const TEST_MODEL = 'test-'

/**
 * A model that every provider has. Gates, breakers, pauses, limits and scores belong to a model, so tests that each use a
 * model of their own do not disturb each other.
 */
export const modelOf = (name: string) => `${TEST_MODEL}${name}`

export type Env = Record<string, string>

export type ClusterOptions = {
  apis?: number
  workers?: number
  /** For all processes. */
  env?: Env
  /** Dedicated servers that the test can kill or flush, in place of the shared ones. */
  own?: ('postgres' | 'redis')[]
  /** Also configures OpenAI, served by `openai`. */
  openai?: boolean
}

export type Attempt = { worker_id: string; provider: string; outcome: string; n: number }

export type Cluster = Awaited<ReturnType<typeof startCluster>>

/** Waits until `condition` returns a value, and returns it. @throws what `condition` throws, or after 100 s */
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

/** Waits for `promise`. @throws after 100 s, because a broken program may never resolve it */
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
  const closers: Closers = []
  const close = () => closeAll(closers)
  try {
    return { ...(await start(options, closers)), close }
  } catch (error) {
    await close()
    throw error
  }
}

async function start(options: ClusterOptions, closers: Closers) {
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
    // Explicit, because an Ollama may listen on this machine.
    PROVIDERS: options.openai ? 'anthropic,openai' : 'anthropic',
    ANTHROPIC_API_KEY: 'key-anthropic',
    ANTHROPIC_BASE_URL: upstream.url,
    PRICES: JSON.stringify(Object.fromEntries(['anthropic', 'openai'].map(name => [`${name}/${TEST_MODEL}*`, PRICE]))),
    ...(options.openai && { OPENAI_API_KEY: 'key-openai', OPENAI_BASE_URL: `${openai.url}/v1` }),
    ...options.env,
  }
  const children = new Set<Child>()
  closers.push(async () => {
    // SIGKILL also ends a process that SIGSTOP has stopped.
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
    /** The first API. */
    api: apis[0]!,
    workers,
    startApi,
    startWorker,
    postgres,
    redis,
    /** The environment of all processes. */
    env,
    databaseUrl,
    redisUrl,
    prefix,
    sql,
    /** Resolves when all the tasks have ended. */
    ended: (ids: string[]) =>
      until(`${ids.length} tasks have ended`, async () => {
        const live = `SELECT 1 FROM tasks WHERE id = ANY($1) AND status IN ('queued', 'running') LIMIT 1`
        // The test may have killed Postgres.
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
    /** Before a test: resets the upstreams and deletes the state of all gates. */
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
    /** Declares a worker that was killed or stopped dead at once, instead of ten seconds after its last heartbeat. */
    presumeDead: (worker: { id: string }) =>
      sql(`UPDATE workers SET beat_at = beat_at - interval '1 minute' WHERE id = $1`, [worker.id]),
  }
}

export type Api = Child & Client
export type WorkerProcess = Child & { id: string }

/** The id in the database of an id on the wire. */
export const uuidOf = (wireId: string): string => fromWire('task', wireId)!

/** The markers that were not called exactly `times` times, with their number of calls. */
export function countedOtherThan(upstream: Upstream, markers: string[], times: number): Record<string, number> {
  const counted = upstream.markers() as Record<string, number>
  return Object.fromEntries(markers.map(name => [name, counted[name] ?? 0] as const).filter(([, n]) => n !== times))
}

/** `<name>-0`, `<name>-1` …, to be put into prompts in double brackets. */
export const markers = (name: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${name}-${index}`)

async function clone(closers: Closers): Promise<string> {
  const database = await createTestDatabase()
  closers.push(() => database.drop())
  return database.url
}

/** Durable, because the tests check which data survive when it is killed. */
async function ownPostgres(closers: Closers): Promise<Restartable> {
  const dir = join(serverDirectory(closers).dir, 'postgres')
  const postgres = await restartable(port => startPostgres({ dir, port }), closers)
  await migrate(postgres.url)
  return postgres
}

const ownRedis = (closers: Closers): Promise<Restartable> => {
  const { dir } = serverDirectory(closers)
  return restartable(port => startRedis({ dir, role: 'queue', port }), closers)
}

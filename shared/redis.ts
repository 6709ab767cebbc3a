import type { Writable } from 'node:stream'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import type { Logger } from '#shared/logger.ts'
import { type ClusterAddress, clusterOf } from '#shared/redis-url.ts'

export type { Redis } from 'ioredis'

/**
 * `fast`: fails at once while Redis is away, for everything that has another way to go on.
 * `blocking`: waits and reconnects for ever, as BullMQ's workers need it.
 * `subscriber`: pub/sub; resubscribes by itself.
 */
export type RedisRole = 'fast' | 'blocking' | 'subscriber'

const BY_ROLE: Record<RedisRole, RedisOptions> = {
  // One timer a connection: commandTimeout would set one for each of the hundreds of commands of a bulk add.
  fast: { enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 2000 },
  blocking: { maxRetriesPerRequest: null },
  subscriber: { maxRetriesPerRequest: null },
}

/**
 * Connects in the background, and again whenever it breaks.
 * @param options `url`: of one server (`redis:`, `rediss:`) or of a cluster; `more` stands above what the role says
 */
export function connectRedis(options: {
  url: string
  role: RedisRole
  name: string
  logger: Logger
  more?: RedisOptions
}): Redis {
  const { role, name, logger } = options
  let outage: { logged: boolean } | null = null
  const away = async (error: Error) => {
    // One line an outage, not one a retry.
    if (outage) return
    const current = { logged: false }
    outage = current
    const err = cluster ? ((await refusalOf(cluster, all)) ?? error) : error
    if (outage !== current) return
    logger.warn({ err, connection: name }, 'redis is away')
    current.logged = true
  }
  const back = () => {
    if (outage?.logged) logger.info({ connection: name }, 'redis is back')
    outage = null
  }
  const retry = (times: number) => Math.min(times * 100, 2000)
  const all: RedisOptions = { ...BY_ROLE[role], connectionName: name, connectTimeout: 3000, ...options.more }
  const cluster = clusterOf(options.url)
  const redis = cluster ? openCluster(cluster, all, retry) : new Redis(options.url, { ...all, retryStrategy: retry })
  redis.on('error', away)
  redis.on('ready', back)
  const watch = (node: Redis) => node.on('connect', () => writeByTurns(node.stream))
  if (redis instanceof Redis) watch(redis)
  else {
    // A cluster without one of its nodes is still ready.
    redis.on('node error', away)
    redis.on('+node', (node: Redis) => watch(node).on('ready', back))
  }
  // Whoever uses it does the same with both: the commands are the same, and the keys of each have one hash tag.
  return redis as Redis
}

function openCluster(at: ClusterAddress, all: RedisOptions, retry: (times: number) => number): Cluster {
  const { enableOfflineQueue = true, ...redisOptions } = all
  return new Cluster(at.nodes, {
    enableOfflineQueue,
    clusterRetryStrategy: retry,
    slotsRefreshTimeout: 3000,
    // A master that is away is away: who may wait does so itself, and `fast` must not.
    ...(enableOfflineQueue ? {} : { maxRedirections: 4, retryDelayOnFailover: 50, retryDelayOnClusterDown: 50 }),
    redisOptions: { ...redisOptions, ...accessTo(at) },
    // Certificates are for names, and a node says its own.
    ...(at.tls && { dnsLookup: (host: string, found: (error: null, address: string) => void) => found(null, host) }),
  })
}

const accessTo = (at: ClusterAddress): RedisOptions => ({
  ...(at.username && { username: at.username }),
  ...(at.password && { password: at.password }),
  ...(at.tls && { tls: {} }),
})

/** Why the first of the nodes that lets nobody in does so. The client of a cluster keeps it to itself: "Connection is closed." */
async function refusalOf(at: ClusterAddress, all: RedisOptions): Promise<Error | null> {
  for (const node of at.nodes) {
    const alone = new Redis({ ...all, ...accessTo(at), ...node, retryStrategy: () => null, lazyConnect: true })
    const refusal = await new Promise<Error | null>(resolve => {
      alone.on('error', resolve)
      alone.connect().then(() => resolve(null), resolve)
    })
    alone.disconnect()
    if (refusal) return refusal
  }
  return null
}

/** Closes without waiting for an answer: `quit()` never settles while Redis is down. */
export const closeRedis = (redis: Redis): void => redis.disconnect()

/**
 * Lets all commands of one turn of the event loop leave in one write. ioredis writes each by itself, and a hundred jobs that
 * are done at once are a hundred commands: the system calls cost us and Redis more than the commands.
 */
function writeByTurns(socket: Writable): void {
  const write = socket.write
  let corked = false
  const uncork = () => {
    corked = false
    socket.uncork()
  }
  socket.write = ((...args: Parameters<typeof write>) => {
    if (!corked) {
      corked = true
      socket.cork()
      setImmediate(uncork)
    }
    return write.apply(socket, args)
  }) as typeof write
}

/** The servers that hold its keys: of a cluster the masters, else itself. */
export const mastersOf = (redis: Redis): Redis[] =>
  redis instanceof Redis ? [redis] : (redis as Cluster).nodes('master')

export type Memory = { usedBytes: number; maxBytes: number; evicts: boolean }

/**
 * What it uses, and may use (0: no bound), in bytes, and whether it throws keys away when that is not enough. Of a cluster: the
 * fullest of the masters, since a queue is on one.
 */
export const readMemory = async (redis: Redis): Promise<Memory> =>
  fullestOf(await Promise.all(mastersOf(redis).map(async node => memoryOf(await node.info('memory')))))

/** By the part that it uses of what it may; without bounds by what it uses. */
export function fullestOf(masters: Memory[]): Memory {
  const part = ({ usedBytes, maxBytes }: Memory) => (maxBytes > 0 ? usedBytes / maxBytes : 0)
  const [fullest] = masters.toSorted((a, b) => part(b) - part(a) || b.usedBytes - a.usedBytes)
  if (!fullest) throw new Error('the cluster has no master')
  return { ...fullest, evicts: masters.some(one => one.evicts) }
}

function memoryOf(info: string): Memory {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? ''
  return {
    usedBytes: Number(field('used_memory')),
    maxBytes: Number(field('maxmemory')),
    evicts: field('maxmemory_policy') !== 'noeviction',
  }
}

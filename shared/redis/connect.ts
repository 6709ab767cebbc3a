import type { Writable } from 'node:stream'
import { Cluster, Redis, type RedisOptions } from 'ioredis'
import type { Logger } from '#shared/process/logger.ts'
import { createRefusals } from './refusals.ts'
import { type ClusterAddress, clusterOf, type SentinelAddress, sentinelOf } from './url.ts'

export type { Redis } from 'ioredis'

/**
 * `fast`: fails at once while Redis is unavailable, for work that can continue without it.
 * `blocking`: waits and reconnects forever, as BullMQ's workers require.
 * `subscriber`: pub/sub; resubscribes by itself.
 */
export type RedisRole = 'fast' | 'blocking' | 'subscriber'

const BY_ROLE: Record<RedisRole, RedisOptions> = {
  // socketTimeout uses one timer per connection; commandTimeout would set one for each command of a bulk add.
  fast: { enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 2000 },
  blocking: { maxRetriesPerRequest: null },
  subscriber: { maxRetriesPerRequest: null },
}

/**
 * Connects in the background. Reconnects when the connection breaks, and when the server reports that it is not the primary: after
 * a failover the old primary keeps its connections open as a read-only replica.
 * @param options `url`: of one server (`redis:`, `rediss:`), of a cluster, or of Sentinels; `more` overrides the options of the role
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
    // One log line per outage, not per retry.
    if (outage) return
    const current = { logged: false }
    outage = current
    const err = cluster ? ((await refusalOf(cluster, all)) ?? error) : error
    if (outage !== current) return
    logger.warn({ err, connection: name }, 'redis is unavailable')
    current.logged = true
  }
  const back = () => {
    if (outage?.logged) logger.info({ connection: name }, 'redis is available again')
    outage = null
  }
  const refusals = createRefusals()
  const retry = (times: number) => Math.max(Math.min(times * 100, 2000), refusals.pauseMs())
  const all: RedisOptions = { ...BY_ROLE[role], connectionName: name, connectTimeout: 3000, ...options.more }
  /** Connections that BullMQ duplicates share it. 2: reconnect and resend the refused command; true: reconnect only. */
  const reconnectOnError = (error: Error) => {
    const refusal = refusals.note(error)
    if (refusal === 'first') logger.warn({ err: error, connection: name }, 'redis is not the primary: reconnecting')
    // ioredis adds a listener for each reconnection that is requested, so commands refused together request one.
    if (all.enableOfflineQueue === false) return refusal === 'first' || refusal === 'again'
    return refusal === null ? false : 2
  }
  const cluster = clusterOf(options.url)
  const sentinel = sentinelOf(options.url)
  const single = { ...all, retryStrategy: retry, reconnectOnError }
  // The nodes of a cluster redirect to the primary by themselves.
  const redis = cluster
    ? openCluster(cluster, all, retry)
    : sentinel
      ? openBySentinel(sentinel, single, retry)
      : new Redis(options.url, single)
  redis.on('error', away)
  redis.on('ready', back)
  const watch = (node: Redis) => {
    node.on('error', () => ignoreLaterErrors(node))
    return node.on('connect', () => writeByTurns(node.stream))
  }
  if (redis instanceof Redis) watch(redis)
  else {
    // A cluster that lost a node still reports ready.
    redis.on('node error', away)
    redis.on('+node', (node: Redis) => watch(node).on('ready', back))
  }
  // Callers use both alike: the commands are the same, and the keys of each command share a hash tag.
  return redis as Redis
}

function openCluster(at: ClusterAddress, all: RedisOptions, retry: (times: number) => number): Cluster {
  const { enableOfflineQueue = true, ...redisOptions } = all
  return new Cluster(at.nodes, {
    enableOfflineQueue,
    clusterRetryStrategy: retry,
    slotsRefreshTimeout: 3000,
    // `fast` must not wait for a master that is unavailable; callers that may wait retry by themselves.
    ...(enableOfflineQueue ? {} : { maxRedirections: 4, retryDelayOnFailover: 50, retryDelayOnClusterDown: 50 }),
    redisOptions: { ...redisOptions, ...accessTo(at) },
    // Certificates are issued for host names, so the name that a node announces must not be resolved first.
    ...(at.tls && { dnsLookup: (host: string, found: (error: null, address: string) => void) => found(null, host) }),
  })
}

const openBySentinel = (at: SentinelAddress, options: RedisOptions, retry: (times: number) => number): Redis =>
  new Redis({
    ...options,
    ...accessTo(at),
    ...(at.sentinelUsername && { sentinelUsername: at.sentinelUsername }),
    ...(at.sentinelPassword && { sentinelPassword: at.sentinelPassword }),
    ...(at.tls && { sentinelTLS: {}, enableTLSForSentinelMode: true }),
    sentinels: at.nodes,
    name: at.master,
    db: at.db,
    sentinelRetryStrategy: retry,
    // A subscriber writes nothing, so the old primary never refuses anything of it.
    failoverDetector: true,
  })

const accessTo = (at: ClusterAddress): RedisOptions => ({
  ...(at.username && { username: at.username }),
  ...(at.password && { password: at.password }),
  ...(at.tls && { tls: {} }),
})

/** The error of the first node that refuses a connection. The cluster client reports only "Connection is closed." */
async function refusalOf(at: ClusterAddress, all: RedisOptions): Promise<Error | null> {
  for (const node of at.nodes) {
    const alone = new Redis({ ...all, ...accessTo(at), ...node, retryStrategy: () => null, lazyConnect: true })
    const refusal = await new Promise<Error | null>(resolve => {
      alone.on('error', error => {
        ignoreLaterErrors(alone)
        resolve(error)
      })
      alone.connect().then(() => resolve(null), resolve)
    })
    alone.disconnect()
    if (refusal) return refusal
  }
  return null
}

/** ioredis handles only the first error of a socket. A TLS socket may have another, which would end the process. */
const ignoreLaterErrors = ({ stream }: Redis) => stream?.on('error', () => undefined)

/** Closes without waiting for a reply, because `quit()` never settles while Redis is down. */
export const closeRedis = (redis: Redis): void => redis.disconnect()

/**
 * Sends all commands of one turn of the event loop in one write. ioredis writes each command separately, and the system calls of
 * a hundred jobs that end together cost more, here and in Redis, than the commands.
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

/** The servers that hold the keys: the masters of a cluster, or the server itself. */
export const mastersOf = (redis: Redis): Redis[] =>
  redis instanceof Redis ? [redis] : (redis as Cluster).nodes('master')

export type Memory = { usedBytes: number; maxBytes: number; evicts: boolean }

/**
 * Used and maximum memory in bytes (maximum 0: unlimited), and whether the server evicts keys. In a cluster: of the fullest
 * master, because a queue is on one of them.
 */
export const readMemory = async (redis: Redis): Promise<Memory> =>
  fullestOf(await Promise.all(mastersOf(redis).map(async node => memoryOf(await node.info('memory')))))

/** Compares by the used share of the maximum; without a maximum, by the used memory. */
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

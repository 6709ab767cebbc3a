import type { Writable } from 'node:stream'
import { Redis, type RedisOptions } from 'ioredis'
import type { Logger } from '#shared/logger.ts'

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

export function connectRedis(options: { url: string; role: RedisRole; name: string; logger: Logger }): Redis {
  const redis = new Redis(options.url, {
    ...BY_ROLE[options.role],
    connectionName: options.name,
    connectTimeout: 3000,
    retryStrategy: times => Math.min(times * 100, 2000),
  })
  redis.on('connect', () => writeByTurns(redis.stream))
  let down = false
  redis.on('error', error => {
    // One line an outage, not one a retry.
    if (!down) options.logger.warn({ err: error, connection: options.name }, 'redis is away')
    down = true
  })
  redis.on('ready', () => {
    if (down) options.logger.info({ connection: options.name }, 'redis is back')
    down = false
  })
  return redis
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

/** What it uses, and may use (0: no bound), in bytes, and whether it throws keys away when that is not enough. */
export async function readMemory(redis: Redis): Promise<{ usedBytes: number; maxBytes: number; evicts: boolean }> {
  const info = await redis.info('memory')
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1] ?? ''
  return {
    usedBytes: Number(field('used_memory')),
    maxBytes: Number(field('maxmemory')),
    evicts: field('maxmemory_policy') !== 'noeviction',
  }
}

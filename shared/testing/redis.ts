import { inject, onTestFinished } from 'vitest'
import { createLogger } from '#shared/process/logger.ts'
import { closeRedis, connectRedis, mastersOf, type Redis, type RedisRole } from '#shared/redis/connect.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

/** On a busy machine, a server that does not answer within a second can still be up. */
const PATIENT = { connectTimeout: 60_000, socketTimeout: 60_000 }

export const connectPatiently = (url: string): Redis =>
  connectRedis({ url, role: 'fast', name: 'test', logger, more: PATIENT })

/** A connection to a Redis of the tests. Resolves when it is ready, and is closed after the test. */
export async function testRedis(role: RedisRole = 'fast', url = inject('redisUrl')): Promise<Redis> {
  const redis = role === 'fast' ? connectPatiently(url) : connectRedis({ url, role, name: 'test', logger })
  onTestFinished(() => closeRedis(redis))
  await new Promise(resolve => redis.once('ready', resolve))
  return redis
}

/** A connection to an address where no Redis listens. It is closed after the test. */
export function unreachableRedis(role: RedisRole = 'fast'): Redis {
  const redis = connectRedis({ url: 'redis://127.0.0.1:1', role, name: 'away', logger })
  onTestFinished(() => closeRedis(redis))
  return redis
}

/** All keys that match the pattern, on every master of a cluster. */
export const keysLike = async (redis: Redis, pattern: string): Promise<string[]> =>
  (await Promise.all(mastersOf(redis).map(node => node.keys(pattern)))).flat()

/** One command per key, because the keys may be in different slots of a cluster. */
export const forgetKeys = (redis: Redis, keys: string[]) => Promise.all(keys.map(key => redis.del(key)))

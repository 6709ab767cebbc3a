import { inject, onTestFinished } from 'vitest'
import { createLogger } from '#shared/logger.ts'
import { closeRedis, connectRedis, mastersOf, type Redis, type RedisRole } from '#shared/redis.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

/** On a machine that others use too, a second says nothing of whether a server is there. */
const PATIENT = { connectTimeout: 60_000, socketTimeout: 60_000 }

export const connectPatiently = (url: string): Redis =>
  connectRedis({ url, role: 'fast', name: 'test', logger, more: PATIENT })

/** A connection to one of the tests' Redis that is closed after the test. Resolves once it can be used. */
export async function testRedis(role: RedisRole = 'fast', url = inject('redisUrl')): Promise<Redis> {
  const redis = role === 'fast' ? connectPatiently(url) : connectRedis({ url, role, name: 'test', logger })
  onTestFinished(() => closeRedis(redis))
  await new Promise(resolve => redis.once('ready', resolve))
  return redis
}

/** A connection to a Redis that is not there. */
export function awayRedis(role: RedisRole = 'fast'): Redis {
  const redis = connectRedis({ url: 'redis://127.0.0.1:1', role, name: 'away', logger })
  onTestFinished(() => closeRedis(redis))
  return redis
}

/** All keys that match, on whichever server of a cluster. */
export const keysLike = async (redis: Redis, pattern: string): Promise<string[]> =>
  (await Promise.all(mastersOf(redis).map(node => node.keys(pattern)))).flat()

/** One by one: they may be in several slots of a cluster. */
export const forgetKeys = (redis: Redis, keys: string[]) => Promise.all(keys.map(key => redis.del(key)))

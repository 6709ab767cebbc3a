import { once } from 'node:events'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import type { Redis } from '#shared/redis/connect.ts'

/** Maximum number of names per server. */
const MAX_NAMES = 1000
/** Seconds on Redis's clock after which a name that is no longer listed expires. */
const KEEP_SECONDS = 86_400
const REFRESH_MS = 2000
const CONNECT_MS = 2000
/** Interval at which an unchanged list is written again. */
const REWRITE_MS = 60_000

/**
 * Adds names to a list and removes expired ones. The empty name marks a server that answered, possibly without models.
 * KEYS[1]: sorted set of names by the time at which they were last listed. ARGV: names.
 */
const WRITE_SCRIPT = `
local now = tonumber(redis.call('TIME')[1])
for i = 1, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ${KEEP_SECONDS})
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -${MAX_NAMES + 2})
redis.call('EXPIRE', KEYS[1], ${KEEP_SECONDS})
return 1
`

/**
 * The models of the operator's own servers (Ollama and others without a key). Workers query the servers and share the
 * lists through Redis, so that the API knows them, too, and keeps them while a server is unreachable.
 */
export type ModelLists = {
  /** The names that any worker saw within a day; null: the server has never answered. */
  read(provider: string): readonly string[] | null
  write(provider: string, names: readonly string[]): void
  /** Reads the lists before the first request. Resolves without them if Redis is unreachable. */
  begin(): Promise<void>
  stop(): Promise<void>
}

/** The providers that list their models. */
export const listingProviders = (configs: readonly { name: string; lists?: true }[]): string[] =>
  configs.filter(one => one.lists).map(one => one.name)

export function createModelLists(deps: {
  redis: Redis
  prefix: string
  /** Providers that list their models now. */
  providers: () => readonly string[]
  logger: Logger
}): ModelLists {
  const { redis, prefix, providers, logger } = deps
  const known = new Map<string, readonly string[]>()
  const written = new Map<string, { text: string; at: number }>()
  const keyOf = (provider: string) => `${prefix}:models:${provider}`

  async function refresh(): Promise<void> {
    for (const provider of providers()) {
      const names = await redis.zrange(keyOf(provider), 0, -1)
      // An empty answer may mean that Redis lost the list, so this process keeps its own.
      if (names.length > 0) known.set(provider, names.filter(name => name !== '').sort())
    }
  }

  const stop = repeatEvery(REFRESH_MS, refresh, error => logger.debug({ err: error }, 'lists of models not read'))

  return {
    read: provider => known.get(provider) ?? null,
    write(provider, names) {
      const kept = names.slice(0, MAX_NAMES)
      const text = JSON.stringify(kept)
      const last = written.get(provider)
      if (last?.text === text && performance.now() - last.at < REWRITE_MS) return
      written.set(provider, { text, at: performance.now() })
      if (!known.has(provider)) known.set(provider, kept)
      redis.eval(WRITE_SCRIPT, 1, keyOf(provider), '', ...kept).catch(error => {
        written.delete(provider)
        logger.debug({ err: error }, 'list of models not written')
      })
    },
    async begin() {
      if (providers().length === 0) return
      try {
        if (redis.status !== 'ready') await once(redis, 'ready', { signal: AbortSignal.timeout(CONNECT_MS) })
        await refresh()
      } catch (error) {
        logger.debug({ err: error }, 'lists of models not read yet')
      }
    },
    stop,
  }
}

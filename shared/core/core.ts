import { createCache } from '#shared/cache/cache.ts'
import { type Config, ConfigError } from '#shared/config.ts'
import { followClock } from '#shared/db/clock.ts'
import { createSeeder, markUsed } from '#shared/db/gates.ts'
import { type Db, openDb } from '#shared/db/pool.ts'
import { schemaIsCurrent } from '#shared/db/schema-version.ts'
import { sharedSecret } from '#shared/db/secrets.ts'
import { createFinisher } from '#shared/db/tasks/finish.ts'
import type { FinishedTask } from '#shared/db/tasks/row.ts'
import { startDispatcher } from '#shared/dispatch/dispatcher.ts'
import { createNotifications } from '#shared/events/notifications.ts'
import { createFileStore } from '#shared/files/store.ts'
import { createGate } from '#shared/gate/gate.ts'
import { createLimitsReader } from '#shared/gate/limits.ts'
import { jobs, resultsWithoutVerdict } from '#shared/jobs/index.ts'
import { setFenceKey } from '#shared/jobs/prompt-fence.ts'
import { startSweeper } from '#shared/maintenance/sweep.ts'
import { createEndCounter } from '#shared/metrics/end-metrics.ts'
import { createMetrics } from '#shared/metrics/metrics.ts'
import { createModelLists, listingProviders } from '#shared/models/model-lists.ts'
import type { Lifecycle } from '#shared/process/lifecycle.ts'
import { LIVENESS } from '#shared/process/liveness.ts'
import type { Logger } from '#shared/process/logger.ts'
import { QUEUES, queuePrefix } from '#shared/queue/names.ts'
import { createProducer } from '#shared/queue/producer.ts'
import { closeRedis, connectRedis, type RedisRole } from '#shared/redis/connect.ts'
import { watchRedis } from '#shared/redis/health.ts'
import { startTracing } from '#shared/tracing/start.ts'
import { startProviderRegistry } from './provider-registry.ts'

export type CoreOptions = {
  part: 'api' | 'worker'
  config: Config
  logger: Logger
  lifecycle: Lifecycle
  /** How long a caller waits for the cache, milliseconds; absent: the default of `createCache`. */
  cacheTimeoutMs?: number
}

export type Core = Awaited<ReturnType<typeof startCore>>

/**
 * Starts the parts that API and worker processes have in common, in the order of their dependencies, and registers each with
 * `lifecycle`, so that a start that fails half way releases the earlier parts.
 * @throws ConfigError if a setting is missing or the schema is too old
 * @throws DatabaseUnavailable
 */
export async function startCore({ part, config, logger, lifecycle, cacheTimeoutMs }: CoreOptions) {
  const { DATABASE_URL: databaseUrl, REDIS_URL: redisUrl, CACHE_REDIS_URL: cacheUrl, REDIS_PREFIX: prefix } = config
  if (!databaseUrl) throw new ConfigError('DATABASE_URL: is required (`npm start` sets it)')
  if (!redisUrl) throw new ConfigError('REDIS_URL: is required (`npm start` sets it)')
  if (config.liveness !== LIVENESS)
    logger.warn('LIVENESS_SCALE is set: this process declares others dead early. It is meant for tests only')
  const metrics = createMetrics(part)
  const tracing = await startTracing(config.tracing, { part, metrics, logger })
  if (tracing) lifecycle.defer('tracing', () => tracing.stop())

  const db = openDb({
    url: databaseUrl,
    max: config.DB_POOL,
    application: `sluice-${part}`,
    logger,
    lockIdleMs: config.liveness.lockIdleMs,
  })
  lifecycle.defer('postgres', () => db.close())
  await prepareDatabase(db, logger, lifecycle)

  const connect = (role: RedisRole, name: string, url = redisUrl) => {
    const redis = connectRedis({ url, role, name: `sluice-${part}-${name}`, logger })
    lifecycle.defer(`redis ${name}`, () => closeRedis(redis))
    return redis
  }
  const redis = connect('fast', 'main')
  const subscriber = connect('subscriber', 'notifications')
  const cacheRedis = cacheUrl ? connect('fast', 'cache', cacheUrl) : null
  const queuePrefixes = QUEUES.map(queue => queuePrefix(prefix, queue))
  const redisHealth = {
    redis: watchRedis({ name: 'queue', redis, prefixes: queuePrefixes, subscribers: [subscriber], metrics, logger }),
    ...(cacheRedis && { cache: watchRedis({ name: 'cache', redis: cacheRedis, prefixes: [prefix], metrics, logger }) }),
  }
  for (const [name, health] of Object.entries(redisHealth)) lifecycle.defer(`health of ${name}`, () => health.stop())

  const notifications = createNotifications({ redis, subscriber, prefix, logger })
  const producer = createProducer({ redis, prefix })
  const countEnded = createEndCounter(metrics, jobs)
  const onEnded = (ended: FinishedTask[]) => {
    countEnded(ended)
    notifications.ended(ended.map(task => task.id))
  }
  const finishTask = createFinisher(db, onEnded, { noVerdicts: resultsWithoutVerdict })
  const cache = createCache({
    redis: cacheRedis ?? redis,
    prefix,
    logger,
    ...(cacheTimeoutMs !== undefined && { timeoutMs: cacheTimeoutMs }),
    // A Redis of its own evicts by itself.
    ...(!cacheUrl && { maxBytes: config.CACHE_MAX_MB * 1_000_000 }),
  })
  const files = createFileStore({ db, config, metrics, logger })

  const providerRegistry = await startProviderRegistry({ config, db, metrics, logger })
  lifecycle.defer('provider registry', () => providerRegistry.stop())
  const configuredNow = () => providerRegistry.current().providers
  const limits = createLimitsReader({ db, logger, configured: configuredNow() })
  providerRegistry.onChange(({ providers }) => limits.declare(providers))
  lifecycle.defer('limits', () => limits.stop())
  await limits.refresh()
  const gate = createGate({
    redis,
    prefix,
    limitsOf: limits.of,
    seed: createSeeder(db),
    markUsed: target => markUsed(db, target),
  })
  const modelLists = createModelLists({ redis, prefix, providers: () => listingProviders(configuredNow()), logger })
  lifecycle.defer('lists of models', () => modelLists.stop())
  await modelLists.begin()

  const { liveness, RESULT_RETENTION_DAYS: resultRetentionDays } = config
  lifecycle.defer(
    'sweeper',
    startSweeper({ db, end: finishTask, producer, files, liveness, metrics, logger, resultRetentionDays }),
  )
  lifecycle.defer('dispatcher', startDispatcher({ db, producer, metrics, logger }))

  return {
    metrics,
    tracing,
    db,
    redis,
    cacheRedis,
    redisHealth,
    connect,
    notifications,
    producer,
    countEnded,
    finishTask,
    cache,
    files,
    limits,
    gate,
    modelLists,
    providerRegistry,
  }
}

/** Takes from Postgres what every process of the installation shares: the clock and the key that fences prompts. */
async function prepareDatabase(db: Db, logger: Logger, lifecycle: Lifecycle): Promise<void> {
  if (!(await schemaIsCurrent(db)))
    throw new ConfigError('DATABASE_URL: its schema is older than this version; run `npm run migrate`')
  lifecycle.defer('clock', await followClock(db, logger))
  setFenceKey(await sharedSecret(db, 'prompt_fence'))
}

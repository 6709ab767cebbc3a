import type { AddressInfo } from 'node:net'
import { createScale } from '#shared/autoscale/scale.ts'
import { createCache } from '#shared/cache.ts'
import { type Config, ConfigError } from '#shared/config.ts'
import { createEndCounter } from '#shared/count-ended.ts'
import { readRoom } from '#shared/db/dispatches.ts'
import { createSeeder } from '#shared/db/gates.ts'
import { createInserter } from '#shared/db/insert.ts'
import { openDb } from '#shared/db/pool.ts'
import { schemaIsCurrent } from '#shared/db/schema-version.ts'
import { createEnder, type Ended } from '#shared/db/tasks.ts'
import { createStateReader, createViewer, readStates } from '#shared/db/views.ts'
import { startDispatcher } from '#shared/dispatcher.ts'
import { createHints } from '#shared/events/hints.ts'
import { createWatcher } from '#shared/events/watch.ts'
import { createFileStore } from '#shared/files/store.ts'
import { createGate } from '#shared/gate/gate.ts'
import { createLimits } from '#shared/gate/limits.ts'
import { jobs, noVerdicts } from '#shared/jobs/index.ts'
import { createKeyLimiter } from '#shared/key-limiter.ts'
import { createLifecycle, type Lifecycle } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import { createLookup } from '#shared/lookup.ts'
import { createMetrics, type Metrics } from '#shared/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { createProducer } from '#shared/queue/producer.ts'
import { closeRedis, connectRedis, readMemory } from '#shared/redis.ts'
import { startSweeper } from '#shared/sweep.ts'
import { startTracing } from '#shared/tracing/start.ts'
import { createAfford } from './afford.ts'
import { buildApp } from './app.ts'
import { createCollectionWrites } from './collection-writes.ts'
import { createExperiments } from './experiments.ts'
import { createFleet } from './fleet.ts'
import { createKeyRing } from './key-ring.ts'
import { createOutbox } from './outbox.ts'
import { createRoom } from './room.ts'
import { createBoundedSearch } from './search.ts'

export type ApiOptions = { config: Config; logger: Logger }

/**
 * Starts one API process's parts, in the order in which they need each other.
 * @throws if Postgres cannot be reached, its schema is too old or the port is taken; what had been started is released
 */
export async function startApi(options: ApiOptions): Promise<{ lifecycle: Lifecycle; port: number; metrics: Metrics }> {
  const lifecycle = createLifecycle(options.logger)
  try {
    const metrics = createMetrics('api')
    return { lifecycle, metrics, port: await start(options, metrics, lifecycle) }
  } catch (error) {
    await lifecycle.stop()
    throw error
  }
}

async function start({ config, logger }: ApiOptions, metrics: Metrics, lifecycle: Lifecycle): Promise<number> {
  if (!config.DATABASE_URL) throw new ConfigError('DATABASE_URL: is needed by the API (`npm start` sets it)')
  if (!config.REDIS_URL) throw new ConfigError('REDIS_URL: is needed by the API (`npm start` sets it)')
  const prefix = config.REDIS_PREFIX
  const draining = new AbortController()
  const tracing = await startTracing(config.tracing, { part: 'api', metrics, logger })
  if (tracing) lifecycle.defer('tracing', () => tracing.stop())

  const db = openDb({ url: config.DATABASE_URL, max: config.DB_POOL, application: 'sluice-api', logger })
  lifecycle.defer('postgres', () => db.close())
  if (!(await schemaIsCurrent(db)))
    throw new ConfigError('DATABASE_URL: its schema is older than this version; run `npm run migrate`')
  const keys = createKeyRing(db)
  if (config.ADMIN_KEY) await keys.installAdmin(config.ADMIN_KEY)

  const redis = connectRedis({ url: config.REDIS_URL, role: 'fast', name: 'sluice-api-main', logger })
  const subscriber = connectRedis({ url: config.REDIS_URL, role: 'subscriber', name: 'sluice-api-hints', logger })
  const cacheRedis = config.CACHE_REDIS_URL
    ? connectRedis({ url: config.CACHE_REDIS_URL, role: 'fast', name: 'sluice-api-cache', logger })
    : redis
  lifecycle.defer('redis', () => [redis, subscriber, cacheRedis].forEach(closeRedis))

  const hints = createHints({ redis, subscriber, prefix, logger })
  const producer = createProducer({ redis, prefix })
  const count = createEndCounter(metrics, jobs)
  const told = (ended: Ended[]) => {
    count(ended)
    hints.ended(ended.map(one => one.id))
  }
  const end = createEnder(db, told, { noVerdicts })
  const watcher = createWatcher({
    hints,
    readStates: ids => readStates(db, ids),
    onError: error => logger.warn({ err: error }, 'cannot look for waiters'),
  })
  lifecycle.defer('watcher', () => watcher.stop())
  const files = createFileStore({ db, config, metrics, logger })
  lifecycle.defer(
    'sweeper',
    startSweeper({ db, end, producer, files, metrics, logger, resultRetentionDays: config.RESULT_RETENTION_DAYS }),
  )
  lifecycle.defer('dispatcher', startDispatcher({ db, producer, metrics, logger }))

  const prices = createPrices(config.prices)
  const afford = createAfford({ db, providers: config.providers, prices, logger })
  lifecycle.defer('budgets', () => afford.stop())
  const experiments = createExperiments({ db, logger })
  lifecycle.defer('experiments', () => experiments.stop())
  await experiments.refresh()
  const limits = createLimits({ db, logger })
  lifecycle.defer('limits', () => limits.stop())
  await limits.refresh()
  const gate = createGate({ redis, prefix, limitsOf: limits.of, seed: createSeeder(db) })

  const search = createBoundedSearch(db)
  const outbox = createOutbox()

  const app = await buildApp({
    config,
    db,
    redis,
    jobs,
    insert: createInserter(db),
    outbox,
    view: createViewer(db, { reviewed: [...noVerdicts.keys()], readLarge: outbox.read }),
    state: createStateReader(db),
    end,
    search,
    writeCollection: createCollectionWrites(),
    lookup: createLookup({ db, search, runsQueries: config.QUERY_DATABASE_URL !== undefined }),
    producer,
    cache: createCache({
      redis: cacheRedis,
      prefix,
      logger,
      // A submit that cannot look is a submit like any other.
      timeoutMs: 100,
      ...(!config.CACHE_REDIS_URL && { maxBytes: config.CACHE_MAX_MB * 1_000_000 }),
    }),
    afford,
    experiments,
    prices,
    files,
    room: createRoom({ read: (flow, most) => readRoom(db, flow, most), now: () => performance.now(), logger }),
    gate,
    limits,
    fleet: createFleet({ gate, db }),
    redisMemory: () =>
      Promise.all([
        readMemory(redis).then(memory => ({ redis: 'queue' as const, ...memory })),
        ...(config.CACHE_REDIS_URL
          ? [readMemory(cacheRedis).then(memory => ({ redis: 'cache' as const, ...memory }))]
          : []),
      ]),
    scale: createScale({ db, limitsOf: limits.of, config }),
    hints,
    watcher,
    keys,
    take: createKeyLimiter({ redis, prefix }),
    metrics,
    tracing,
    logger,
    draining: draining.signal,
  })
  lifecycle.defer(
    'http',
    async () => {
      draining.abort()
      // A connection that was busy when the closing began stays open when its answer is out, for as long as its client
      // likes: every event stream and long-poll is one.
      const sweep = setInterval(() => app.server.closeIdleConnections(), 100)
      await app.close().finally(() => clearInterval(sweep))
    },
    config.DRAIN_SECONDS * 1000,
  )
  await app.listen({ host: config.HOST, port: config.PORT }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EADDRINUSE') throw new ConfigError(`PORT: ${config.PORT} is taken on ${config.HOST}`)
    if (error.code === 'EACCES' || error.code === 'EADDRNOTAVAIL')
      throw new ConfigError(`HOST/PORT: cannot listen on ${config.HOST}:${config.PORT} (${error.code})`)
    throw error
  })
  const { port } = app.server.address() as AddressInfo
  logger.info({ host: config.HOST, port }, 'api is serving')
  return port
}

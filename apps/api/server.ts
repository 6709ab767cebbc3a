import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { createScale } from '#shared/autoscale/scale.ts'
import { type Config, ConfigError } from '#shared/config.ts'
import { startCore } from '#shared/core/core.ts'
import { findBatches } from '#shared/db/batches/read.ts'
import { readHeadroom } from '#shared/db/dispatches.ts'
import { createInserter } from '#shared/db/tasks/insert.ts'
import { createStateReader, createTaskReader, readStates } from '#shared/db/tasks/read.ts'
import { createTaskWatcher } from '#shared/events/task-watcher.ts'
import { jobs, resultsWithoutVerdict } from '#shared/jobs/index.ts'
import { createInputContext } from '#shared/jobs/input-context.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { createLifecycle, type Lifecycle, repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { readMemory } from '#shared/redis/connect.ts'
import { createKeyLimiter } from '#shared/redis/key-limiter.ts'
import { configuredProviders } from '#shared/settings/available.ts'
import { buildApp } from './app.ts'
import { createBatchFeed } from './batches/batch-feed.ts'
import { createBoundedSearch, createCollectionWriter } from './collections/collection-concurrency.ts'
import { createExperiments } from './experiments/exposures.ts'
import { createApiKeys, RECHECK_MS } from './http/api-keys.ts'
import { createResponseMemory } from './http/response-memory.ts'
import { createStreamLimit } from './http/stream-limit.ts'
import { createLiveClients } from './live/live-clients.ts'
import { createRetries } from './live/retries.ts'
import { startDirectLane } from './live/start-lane.ts'
import { createProviderStatusReader } from './providers/provider-status.ts'
import { createPreflight } from './tasks/preflight.ts'
import { createHeadroom } from './tasks/queue-headroom.ts'

/** A submission that the cache does not answer in this time is queued like any other. */
const CACHE_TIMEOUT_MS = 100

export type ApiOptions = { config: Config; logger: Logger }

/**
 * Starts the parts of an API process in the order of their dependencies; `lifecycle.stop()` drains it.
 * @throws ConfigError, or DatabaseUnavailable; the parts that had been started are released
 */
export async function startApi(options: ApiOptions): Promise<{ lifecycle: Lifecycle; port: number; metrics: Metrics }> {
  const lifecycle = createLifecycle(options.logger)
  try {
    return { lifecycle, ...(await start(options, lifecycle)) }
  } catch (error) {
    await lifecycle.stop()
    throw error
  }
}

async function start({ config, logger }: ApiOptions, lifecycle: Lifecycle) {
  const core = await startCore({ part: 'api', config, logger, lifecycle, cacheTimeoutMs: CACHE_TIMEOUT_MS })
  const { db, redis, cacheRedis, notifications, limits, gate } = core

  const keys = createApiKeys(db)
  if (config.ADMIN_KEY) await keys.installAdmin(config.ADMIN_KEY)
  lifecycle.defer(
    'keys',
    repeatEvery(RECHECK_MS, keys.recheckWatched, error => logger.debug({ err: error }, 'keys were not checked')),
  )
  const watcher = createTaskWatcher({
    notifications,
    readStates: ids => readStates(db, ids),
    onError: error => logger.warn({ err: error }, 'the states of watched tasks were not read'),
  })
  lifecycle.defer('watcher', () => watcher.stop())
  const batchFeed = createBatchFeed({
    readBatches: ids => findBatches(db, ids),
    onError: error => logger.warn({ err: error }, 'the states of watched batches were not read'),
  })
  lifecycle.defer('batch feed', () => batchFeed.stop())
  const registry = core.providerRegistry
  const prices = createPrices(registry.current().prices)
  registry.onChange(settings => prices.replace(settings.prices))
  const available = () => configuredProviders(registry.current(), core.modelLists.read)
  const preflight = createPreflight({ db, available, prices, logger })
  lifecycle.defer('preflight', () => preflight.stop())
  const experiments = createExperiments({ db, logger })
  lifecycle.defer('experiments', () => experiments.stop())
  await experiments.refresh()
  const search = createBoundedSearch(db)
  const responseMemory = createResponseMemory()
  const direct = await startDirectLane({ core, config, lifecycle, logger })

  const draining = new AbortController()
  const app = await buildApp({
    ...core,
    config,
    jobs,
    insert: createInserter(db),
    responseMemory,
    view: createTaskReader(db, { reviewed: [...resultsWithoutVerdict.keys()], readLarge: responseMemory.read }),
    state: createStateReader(db),
    search,
    writeCollection: createCollectionWriter(),
    lookup: createInputContext({ db, search, runsQueries: config.QUERY_DATABASE_URL !== undefined }),
    preflight,
    available,
    experiments,
    prices,
    headroom: createHeadroom({
      read: (flow, most) => readHeadroom(db, flow, most),
      now: () => performance.now(),
      logger,
    }),
    providerStatus: createProviderStatusReader({ gate, db }),
    redisMemory: () =>
      Promise.all([
        readMemory(redis).then(memory => ({ redis: 'queue' as const, ...memory })),
        ...(cacheRedis ? [readMemory(cacheRedis).then(memory => ({ redis: 'cache' as const, ...memory }))] : []),
      ]),
    scale: createScale({ db, limitsOf: limits.of, config }),
    watcher,
    batchFeed,
    direct,
    liveClients: createLiveClients(),
    retries: createRetries({ redis, prefix: config.REDIS_PREFIX }),
    streams: createStreamLimit({ perKey: config.EVENT_STREAMS_PER_KEY, total: config.EVENT_STREAMS_MAX }),
    keys,
    take: createKeyLimiter({ redis, prefix: config.REDIS_PREFIX }),
    logger,
    draining: draining.signal,
  })
  lifecycle.defer(
    'http',
    async () => {
      draining.abort()
      // Fastify closes idle connections once. Event streams and long polls end later, and their connections would stay open.
      const sweep = setInterval(() => app.server.closeIdleConnections(), 100)
      await app.close().finally(() => clearInterval(sweep))
    },
    config.DRAIN_SECONDS * 1000,
  )
  const port = await listen(app, config)
  logger.info({ host: config.HOST, port }, 'api is serving')
  return { port, metrics: core.metrics }
}

/** @returns the port @throws ConfigError if it cannot be used */
async function listen(app: FastifyInstance, { HOST: host, PORT: port }: Config): Promise<number> {
  await app.listen({ host, port }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EADDRINUSE') throw new ConfigError(`PORT: ${port} is taken on ${host}`)
    if (error.code === 'EACCES' || error.code === 'EADDRNOTAVAIL')
      throw new ConfigError(`HOST/PORT: cannot listen on ${host}:${port} (${error.code})`)
    throw error
  })
  return (app.server.address() as AddressInfo).port
}

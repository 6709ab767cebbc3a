import { createCache } from '#shared/cache.ts'
import { type Config, ConfigError } from '#shared/config.ts'
import { createEndCounter } from '#shared/count-ended.ts'
import { CHUNKS_AT_ONCE } from '#shared/db/chunks.ts'
import { createSeeder, noteUse } from '#shared/db/gates.ts'
import { type Db, openDb } from '#shared/db/pool.ts'
import { createPrecomputedFinder } from '#shared/db/precomputed.ts'
import { openQueryDatabase, type QueryDatabase, QueryDatabaseRefused } from '#shared/db/query-database.ts'
import { schemaIsCurrent } from '#shared/db/schema-version.ts'
import { createEnder, createFollow, createLoader, type Ended, type Ender } from '#shared/db/tasks.ts'
import { leave } from '#shared/db/workers.ts'
import { startDispatcher } from '#shared/dispatcher.ts'
import { createHints } from '#shared/events/hints.ts'
import { createFileStore } from '#shared/files/store.ts'
import { createGate } from '#shared/gate/gate.ts'
import { createLimits } from '#shared/gate/limits.ts'
import { startHeartbeat } from '#shared/heartbeat.ts'
import { newId } from '#shared/ids.ts'
import { MOST_NUMBERS } from '#shared/jobs/embed.ts'
import { jobs, noVerdicts } from '#shared/jobs/index.ts'
import { createLifecycle, type Lifecycle, withDeadline } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'

import { createLookup, createSearch } from '#shared/lookup.ts'
import { createModelLabel, observePool } from '#shared/measure.ts'

import { createMetrics } from '#shared/metrics.ts'
import { createPrices } from '#shared/models/prices.ts'
import { createProducer } from '#shared/queue/producer.ts'
import { closeRedis, connectRedis, type RedisRole } from '#shared/redis.ts'
import { startSweeper } from '#shared/sweep.ts'
import { startTracing } from '#shared/tracing/start.ts'
import { startDeliverer } from '#shared/webhooks/deliver.ts'
import { createAvailability } from './availability.ts'
import { createShare } from './batches/share.ts'
import { createBatchWork } from './batches/work.ts'
import { createBulk } from './bulk.ts'
import { type Consumer, consume, joinConsumers } from './consume.ts'
import { type Consumption, watchConsumption } from './consumption.ts'
import { createHeld } from './held.ts'
import { createAdmission } from './pipeline/admit.ts'
import { call } from './pipeline/call.ts'
import { check } from './pipeline/check.ts'
import { createClaims } from './pipeline/claim.ts'
import { createRecall } from './pipeline/recall.ts'
import { createRunner, type RunDeps } from './pipeline/run.ts'
import { createSettle } from './pipeline/settle.ts'
import { createProviderHealth } from './provider-health.ts'
import { DEAD_END_KINDS } from './providers/define.ts'
import { createProviders } from './providers/index.ts'
import { startScores } from './scores.ts'
import { startStatusServer } from './status-server.ts'
import { createTracedRunner } from './traced.ts'

/**
 * Nobody waits for one line. Statements that gather for so long carry some dozens of them instead of some few: half the CPU
 * for each, here and in Postgres.
 */
const LINE_LINGER_MS = 5

/** Numbers of vectors, each some 60 bytes on its way from a provider to Postgres. */
const MOST_BULK = 4 * MOST_NUMBERS

export type WorkerOptions = { config: Config; queues: string[]; logger: Logger; host: string; pid: number }

export type Worker = {
  lifecycle: Lifecycle
  port: number
  /** The queues whose jobs it has stopped taking. */
  starved(): string[]
  /** How many tasks it runs at a time from now on. */
  setConcurrency(tasks: number): void
  /** Takes no more and stops once the calls under way are done, which may be as long as a call may take. */
  retire(): Promise<void>
}

/**
 * Starts one worker process's parts, in the order in which they need each other; `lifecycle.stop()` drains it.
 * @throws if Postgres cannot be reached or its schema is too old; what had been started is then released
 */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const lifecycle = createLifecycle(options.logger)
  try {
    return { lifecycle, ...(await start(options, lifecycle)) }
  } catch (error) {
    await lifecycle.stop()
    throw error
  }
}

async function start(
  { config, queues, logger, host, pid }: WorkerOptions,
  lifecycle: Lifecycle,
): Promise<Omit<Worker, 'lifecycle'>> {
  if (!config.DATABASE_URL) throw new ConfigError('DATABASE_URL: is needed by a worker (`npm start` sets it)')
  if (!config.REDIS_URL) throw new ConfigError('REDIS_URL: is needed by a worker (`npm start` sets it)')
  const redisUrl = config.REDIS_URL
  const prefix = config.REDIS_PREFIX
  const workerId = newId()
  const metrics = createMetrics('worker')
  const tracing = await startTracing(config.tracing, { part: 'worker', metrics, logger })
  if (tracing) lifecycle.defer('tracing', () => tracing.stop())
  let concurrency = config.WORKER_CONCURRENCY
  let retiring = false
  const leaving = () => retiring || lifecycle.stopping

  const db = openDb({ url: config.DATABASE_URL, max: config.DB_POOL, application: 'sluice-worker', logger })
  lifecycle.defer('postgres', () => db.close())
  if (!(await schemaIsCurrent(db)))
    throw new ConfigError('DATABASE_URL: its schema is older than this version; run `npm run migrate`')

  const connect = (role: RedisRole, name: string) => {
    const redis = connectRedis({ url: redisUrl, role, name: `sluice-worker-${name}`, logger })
    lifecycle.defer(`redis ${name}`, () => closeRedis(redis))
    return redis
  }
  const queries = await openQueries(db, config, logger)
  if (queries) lifecycle.defer('queries', () => queries.close())
  const redis = connect('fast', 'main')
  const connectCache = () => {
    if (!config.CACHE_REDIS_URL) return redis
    const own = connectRedis({ url: config.CACHE_REDIS_URL, role: 'fast', name: 'sluice-worker-cache', logger })
    lifecycle.defer('redis cache', () => closeRedis(own))
    return own
  }
  const hints = createHints({ redis, subscriber: connect('subscriber', 'hints'), prefix, logger })
  const producer = createProducer({ redis, prefix })
  const count = createEndCounter(metrics, jobs)
  const told = (ended: Ended[]) => {
    count(ended)
    hints.ended(ended.map(one => one.id))
  }
  const end = createEnder(db, told, { noVerdicts })

  const held = createHeld()
  lifecycle.defer(
    'hints',
    hints.onEnded(id => held.stop('lost', { id })),
  )

  const prices = createPrices(config.prices)
  const modelLabel = createModelLabel(prices)
  const cache = createCache({
    redis: connectCache(),
    prefix,
    logger,
    ...(!config.CACHE_REDIS_URL && { maxBytes: config.CACHE_MAX_MB * 1_000_000 }),
  })
  const limits = createLimits({ db, configured: config.providers, logger })
  lifecycle.defer('limits', () => limits.stop())
  await limits.refresh()
  const gate = createGate({
    redis,
    prefix,
    limitsOf: limits.of,
    seed: createSeeder(db),
    noteUse: target => noteUse(db, target),
  })
  const admission = createAdmission({ gate, wake: jobs => producer.wake(jobs), metrics, logger })
  lifecycle.defer('admission', () => admission.stop())
  const scores = startScores({ gate, logger })
  lifecycle.defer('scores', () => scores.stop())
  const providers = createProviders(config.providers)
  const available = createAvailability(providers)
  const configured = config.providers.filter(one => one.explicit).map(one => one.name)
  const health = createProviderHealth({ configured, available })
  const bulk = createBulk(MOST_BULK)
  const create = (deps: RunDeps) => (tracing ? createTracedRunner(tracing, deps, config.providers) : createRunner(deps))
  const runnerOf = (end: Ender, lingerMs: number) =>
    create({
      workerId,
      bulk,
      jobs,
      load: createLoader(db, DEAD_END_KINDS, lingerMs),
      available,
      health,
      recall: createRecall({ cache, follow: createFollow(db), metrics }),
      scores: scores.read,
      prices,
      admission,
      precomputed: createPrecomputedFinder(db),
      claims: createClaims(db, workerId, held, () => heartbeat.whenFit(), lingerMs),
      call: input =>
        call(
          { providers, redis, hints, prefix, metrics, modelLabel, timeoutMs: config.CALL_TIMEOUT_SECONDS * 1000 },
          input,
        ),
      check,
      settle: createSettle({ db, workerId, end, producer, prices, modelLabel, metrics }),
      metrics,
      tools: { runQuery: queries ? queries.run : null },
      held,
      draining: leaving,
      maxAttempts: config.MAX_ATTEMPTS,
      backoff: { baseMs: config.BACKOFF_BASE_MS, maxMs: config.BACKOFF_MAX_MS },
      logger,
    })
  const run = runnerOf(end, 0)
  // Lines share their statements with each other, not with a task that somebody waits for; and nobody listens for their ends.
  const runLine = runnerOf(createEnder(db, count, { lingerMs: LINE_LINGER_MS, noVerdicts }), LINE_LINGER_MS)

  let consumer: Consumer | null = null
  let consumption: Consumption | null = null
  const status = await startStatusServer({
    host: config.HOST,
    port: config.WORKER_PORT,
    metrics,
    refresh: () => observePool(metrics, db),
    starved: () => (leaving() ? [] : (consumption?.starved() ?? [])),
    health: async () => {
      const beating = heartbeat.lastBeatMs() < 10_000
      return {
        ok: beating && !leaving(),
        parts: {
          heartbeat: beating ? 'ok' : 'late',
          redis: redis.status,
          state: leaving() ? 'draining' : 'running',
        },
      }
    },
  })
  lifecycle.defer('status server', () => status.server.close())

  const heartbeat = await startHeartbeat({
    db,
    held,
    logger,
    describe: async () => {
      const fetched = consumer?.fetchedAgoMs() ?? new Map<string, number>()
      metrics.active.set(held.size)
      for (const [queue, ago] of fetched) metrics.lastFetch.set({ queue }, (Date.now() - ago) / 1000)
      return {
        id: workerId,
        pid,
        host,
        queues,
        // Who leaves is no longer counted on.
        concurrency: leaving() ? 0 : concurrency,
        active: held.size,
        metricsPort: status.port,
        providers: await health.states(),
        fetchedAgoMs: fetched.size === 0 ? null : Math.min(...fetched.values()),
      }
    },
  })
  // Last out: a worker that still holds claims must go on beating, and must leave the table only without any.
  lifecycle.defer('heartbeat', async () => {
    await heartbeat.stop()
    if (held.size === 0) await leave(db, workerId)
  })

  const files = createFileStore({ db, config, metrics, logger })
  lifecycle.defer(
    'sweeper',
    startSweeper({ db, end, producer, files, metrics, logger, resultRetentionDays: config.RESULT_RETENTION_DAYS }),
  )
  lifecycle.defer('dispatcher', startDispatcher({ db, producer, metrics, logger }))

  lifecycle.defer('webhooks', startDeliverer({ db, config, metrics, tracing, logger }))

  const work = createBatchWork({
    files,
    db,
    workerId,
    jobs,
    available,
    prices,
    lookup: createLookup({ db, search: createSearch(db), runsQueries: queries !== null }),
    end,
    producer,
    run: runLine,
    share: createShare(() => config.BATCH_CONCURRENCY),
    draining: leaving,
    whenFit: () => heartbeat.whenFit(),
    metrics,
    tracing,
    logger,
  })
  lifecycle.defer('batches', () => work.stop())
  const common = { connect: (queue: string) => connect('blocking', queue), prefix, logger }
  const tasks = consume({
    ...common,
    queues: queues.filter(queue => queue !== 'batch'),
    concurrency: config.WORKER_CONCURRENCY,
    run,
  })
  const consuming = joinConsumers([
    tasks,
    consume({
      ...common,
      queues: queues.filter(queue => queue === 'batch'),
      concurrency: Math.min(CHUNKS_AT_ONCE, config.BATCH_CONCURRENCY),
      run: work.run,
    }),
  ])
  consumer = consuming
  consumption = watchConsumption({
    hungryMs: consuming.hungryMs,
    async waiting(name) {
      const queue = producer.queues().find(one => one.name === name)
      // Whoever paused it at the dashboard wants it to wait.
      if (!queue || (await queue.isPaused())) return 0
      return queue.getJobCountByTypes('waiting', 'prioritized')
    },
    logger,
  })
  lifecycle.defer('consumption', consumption.stop)
  lifecycle.defer('consumer', () => drain(consuming), config.DRAIN_SECONDS * 1000 + 6000)

  /** Lets running calls finish for a while, then hands them back. */
  async function drain(running: Consumer): Promise<void> {
    const closed = running.stop()
    try {
      await withDeadline(closed, config.DRAIN_SECONDS * 1000)
    } catch {
      logger.warn({ calls: held.size }, 'still running after DRAIN_SECONDS: handing back')
      held.stop('drain')
      await withDeadline(closed, 5000)
    }
  }

  logger.info(
    {
      worker_id: workerId,
      queues,
      concurrency: config.WORKER_CONCURRENCY,
      providers: [...providers.keys()],
      port: status.port,
    },
    'worker is running',
  )
  return {
    port: status.port,
    // A BullMQ worker that was told to close takes nothing, and should not.
    starved: () => (leaving() ? [] : (consumption?.starved() ?? [])),
    setConcurrency(wanted) {
      concurrency = wanted
      tasks.setConcurrency(wanted)
    },
    async retire() {
      retiring = true
      logger.info({ calls: held.size }, 'retiring')
      await consuming.stop()
      await lifecycle.stop()
    },
  }
}

/** The database that queries run on, if the operator set one. @throws ConfigError if it must not be used */
async function openQueries(db: Db, config: Config, logger: Logger): Promise<QueryDatabase | null> {
  const { QUERY_DATABASE_URL: url, QUERY_TIMEOUT_SECONDS: timeoutSeconds } = config
  if (url === undefined) return null
  try {
    return await openQueryDatabase({ url, own: db, timeoutMs: timeoutSeconds * 1000, logger })
  } catch (error) {
    if (error instanceof QueryDatabaseRefused) throw new ConfigError(`QUERY_DATABASE_URL: ${error.message}`)
    throw error
  }
}

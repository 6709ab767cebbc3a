import { type Config, ConfigError } from '#shared/config.ts'
import { startCore } from '#shared/core/core.ts'
import { CHUNK_CONCURRENCY } from '#shared/db/batches/chunk.ts'
import type { Db } from '#shared/db/pool.ts'
import { openQueryDatabase, type QueryDatabase, QueryDatabaseRefused } from '#shared/db/query-database.ts'
import { deregisterWorker } from '#shared/db/workers.ts'
import { createClaimRegistry } from '#shared/engine/claim-registry.ts'
import { newId } from '#shared/ids.ts'
import { jobs } from '#shared/jobs/index.ts'
import { createInputContext, createSearch } from '#shared/jobs/input-context.ts'
import { observePool } from '#shared/metrics/model-label.ts'
import { now } from '#shared/process/clock.ts'
import { startHeartbeat } from '#shared/process/heartbeat.ts'
import { createLifecycle, type Lifecycle, withDeadline } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { startWebhookDelivery } from '#shared/webhooks/deliver.ts'
import { createTaskRunners } from '../shared/core/task-runners.ts'
import { createLineConcurrency } from './batches/line-concurrency.ts'
import { createBatchWork } from './batches/work.ts'
import { type Consumer, consume, joinConsumers } from './consume.ts'
import { type StarvationMonitor, startStarvationMonitor } from './starvation-monitor.ts'
import { startStatusServer } from './status-server.ts'

export type WorkerOptions = {
  config: Config
  queues: string[]
  logger: Logger
  host: string
  pid: number
  /** How long the demo provider stands in while no other is available, milliseconds. */
  demoMs?: number
}

export type Worker = {
  lifecycle: Lifecycle
  port: number
  /** Takes no more jobs and stops when the running calls are done, which may take as long as a call may take. */
  retire(): Promise<void>
}

/**
 * Starts the parts of a worker process in the order of their dependencies; `lifecycle.stop()` drains it.
 * @throws ConfigError, or DatabaseUnavailable; the parts that had been started are released
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
  { config, queues, logger, host, pid, demoMs = 0 }: WorkerOptions,
  lifecycle: Lifecycle,
): Promise<Omit<Worker, 'lifecycle'>> {
  const { liveness } = config
  let retiring = false
  const draining = () => retiring || lifecycle.stopping

  const core = await startCore({ part: 'worker', config, logger, lifecycle })
  const { db, redisHealth, producer, finishTask, files, metrics, tracing } = core
  const workerId = newId()
  const queries = await openQueries(db, config, logger)
  if (queries) lifecycle.defer('queries', () => queries.close())

  const claimRegistry = createClaimRegistry()
  lifecycle.defer(
    'ended tasks',
    core.notifications.onEnded(id => claimRegistry.stop('lost', { id })),
  )
  const untilHealthy = () => heartbeat.untilHealthy()
  const runners = createTaskRunners({
    core,
    config,
    lifecycle,
    logger,
    workerId,
    claimRegistry,
    queries,
    demoMs,
    draining,
    untilHealthy,
  })

  let consumer: Consumer | null = null
  let starvation: StarvationMonitor | null = null
  const status = await startStatusServer({
    host: config.HOST,
    port: config.WORKER_PORT,
    metrics,
    refresh: () => observePool(metrics, db),
    // A BullMQ worker that is closing takes no jobs.
    starved: () => (draining() ? [] : (starvation?.starved() ?? [])),
    health: async () => {
      const beating = heartbeat.lastBeatMs() < liveness.deadAfterMs
      return {
        ok: beating && !draining(),
        parts: {
          heartbeat: beating ? 'ok' : 'late',
          redis: await redisHealth.redis.state(),
          ...(redisHealth.cache && { cache: await redisHealth.cache.state() }),
          state: draining() ? 'draining' : 'running',
        },
      }
    },
  })
  lifecycle.defer('status server', () => status.server.close())

  const heartbeat = await startHeartbeat({
    db,
    held: claimRegistry,
    liveness,
    logger,
    describe: async () => {
      const fetched = consumer?.fetchedAgoMs() ?? new Map<string, number>()
      metrics.active.set(claimRegistry.size)
      for (const [queue, ago] of fetched) metrics.lastFetch.set({ queue }, (now() - ago) / 1000)
      return {
        id: workerId,
        pid,
        host,
        queues,
        // A worker that drains offers no slots.
        concurrency: draining() ? 0 : config.WORKER_CONCURRENCY,
        active: claimRegistry.size,
        metricsPort: status.port,
        providers: await runners.health.states(),
        fetchedAgoMs: fetched.size === 0 ? null : Math.min(...fetched.values()),
      }
    },
  })
  // Released after everything that claims: a worker with claims must keep its heartbeat and its row.
  lifecycle.defer('heartbeat', async () => {
    await heartbeat.stop()
    if (claimRegistry.size === 0) await deregisterWorker(db, workerId)
  })

  lifecycle.defer('webhooks', startWebhookDelivery({ db, config, metrics, tracing, logger }))
  const batchWork = createBatchWork({
    files,
    db,
    workerId,
    jobs,
    available: runners.available,
    prices: runners.prices,
    lookup: createInputContext({ db, search: createSearch(db), runsQueries: queries !== null }),
    end: finishTask,
    producer,
    run: runners.runLine,
    lineConcurrency: createLineConcurrency(() => config.BATCH_CONCURRENCY),
    draining,
    untilHealthy,
    liveness,
    metrics,
    tracing,
    logger,
  })
  lifecycle.defer('batches', () => batchWork.stop())

  const consumeDeps = {
    connect: (queue: string) => core.connect('blocking', queue),
    prefix: config.REDIS_PREFIX,
    liveness,
    logger,
  }
  const tasks = consume({
    ...consumeDeps,
    queues: queues.filter(queue => queue !== 'batch'),
    concurrency: config.WORKER_CONCURRENCY,
    run: runners.run,
  })
  const chunks = consume({
    ...consumeDeps,
    queues: queues.filter(queue => queue === 'batch'),
    concurrency: Math.min(CHUNK_CONCURRENCY, config.BATCH_CONCURRENCY),
    run: batchWork.run,
  })
  const consuming = joinConsumers([tasks, chunks])
  consumer = consuming
  starvation = startStarvationMonitor({
    idleMs: consuming.idleMs,
    async waiting(name) {
      const queue = producer.queues().find(one => one.name === name)
      // Jobs of a queue that an operator paused are meant to wait.
      if (!queue || (await queue.isPaused())) return 0
      return queue.getJobCountByTypes('waiting', 'prioritized')
    },
    logger,
  })
  lifecycle.defer('starvation monitor', starvation.stop)
  lifecycle.defer('consumer', drain, config.DRAIN_SECONDS * 1000 + 6000)

  /** Gives running calls DRAIN_SECONDS to finish, then returns their tasks to the queue. */
  async function drain(): Promise<void> {
    const closed = consuming.stop()
    try {
      await withDeadline(closed, config.DRAIN_SECONDS * 1000)
    } catch {
      logger.warn(
        { calls: claimRegistry.size },
        'calls still running after DRAIN_SECONDS: returning their tasks to the queue',
      )
      claimRegistry.stop('drain')
      await withDeadline(closed, 5000)
    }
  }

  logger.info(
    {
      worker_id: workerId,
      queues,
      concurrency: config.WORKER_CONCURRENCY,
      providers: runners.providerNames,
      port: status.port,
    },
    'worker is running',
  )
  return {
    port: status.port,
    async retire() {
      retiring = true
      logger.info({ calls: claimRegistry.size }, 'retiring')
      await consuming.stop()
      await lifecycle.stop()
    },
  }
}

/** The database on which queries run, if the operator set one. @throws ConfigError if it must not be used */
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

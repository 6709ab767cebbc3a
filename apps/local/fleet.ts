import { availableParallelism } from 'node:os'
import { createScale } from '#shared/autoscale/scale.ts'
import type { Config } from '#shared/config.ts'
import { openDb } from '#shared/db/pool.ts'
import { createLimitsReader } from '#shared/gate/limits.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import { createLogger } from '#shared/process/logger.ts'
import type { Reason } from '#shared/process/parent-ipc.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import type { Child } from './child.ts'
import { probe } from './liveness-probe.ts'
import { createPool, type FirstStart, type Pool } from './pool.ts'
import { httpUrl } from './process.ts'
import type { SuperviseDeps } from './supervise.ts'

const POLL_MS = 2000

type PoolSpec = { name: string; queues: readonly QueueName[]; args: string[]; min: number; max: number }

/** Tasks that one worker process runs concurrently. */
const tasksPerProcess = (config: Config) => Math.max(config.WORKER_CONCURRENCY, config.WORKER_CONCURRENCY_MAX)

/** Batches have processes of their own, so that interactive tasks have an event loop, and a core, to themselves. */
export function poolSpecs(config: Config, cores = availableParallelism()): PoolSpec[] {
  const { WORKERS_MIN: min, BATCH_PROCESSES: batch } = config
  const maxFor = (min: number) => Math.max(min, config.WORKERS_MAX ?? cores)
  const single = QUEUES.filter(queue => queue !== 'batch')
  // Without workers here, workers elsewhere serve the queues.
  const workers = {
    name: 'worker',
    queues: batch === 0 ? QUEUES : single,
    args: batch === 0 ? [] : ['--queues', single.join(',')],
    min,
    max: min === 0 ? 0 : maxFor(min),
  }
  if (batch === 0) return [workers]
  return [
    workers,
    { name: 'batch worker', queues: ['batch'], args: ['--queues', 'batch'], min: batch, max: maxFor(batch) },
  ]
}

/** For the fleet itself, migrations and an operator's psql. */
const OTHER_CONNECTIONS = 12

/** Postgres connections that the processes of this machine may hold: all workers, a worker that leaves, and the API. */
export const mostConnections = (config: Config, cores = availableParallelism()): number =>
  (poolSpecs(config, cores).reduce((sum, { max }) => sum + max, 0) + 2) * config.DB_POOL + OTHER_CONNECTIONS

export type Fleet = {
  /** Starts the minimum of each pool. Rejects with the first process that does not start. */
  open(first: FirstStart): Promise<void>
  /** From now on the number of processes follows the work. */
  follow(): void
  stop(): Promise<void>
  kill(): void
}

/** The worker processes of this machine: as many as the scaling policy asks for, within the settings. */
export function createFleet(
  o: SuperviseDeps & {
    config: Config
    databaseUrl: string
    startWorker: (o: { args: string[]; env: Record<string, string>; signal: AbortSignal }) => Promise<Child>
    /** As in `createScale`. */
    holdSeconds?: number
    /** Called when a worker that exited or was stuck is restarted. */
    onReplaced: (reason: Reason) => void
  },
): Fleet {
  const { config } = o
  const ports = createPorts(config.WORKER_PORT)
  const specs = poolSpecs(config)
  const pools = specs.map(({ name, queues, args, min, max }) => {
    const concurrency: Record<string, string> = queues.every(queue => queue === 'batch')
      ? {}
      : { WORKER_CONCURRENCY: String(tasksPerProcess(config)) }
    return createPool({
      ...o,
      name,
      min,
      max,
      takeIndex: ports.take,
      freeIndex: ports.free,
      probe: ({ port }) => probe(`${httpUrl(config.HOST, port)}/health/live`),
      // A call that is cut off is paid for and made again.
      retireMs: config.CALL_TIMEOUT_SECONDS * 1000,
      start: ({ index, signal }) =>
        o.startWorker({ args, env: { WORKER_PORT: String(ports.of(index)), ...concurrency }, signal }),
    })
  })
  let stopFollowing: () => unknown = () => {}

  return {
    async open(first) {
      // In this order, so that each process always has the same port.
      await Promise.all(pools.map(pool => pool.open(first)))
    },
    follow() {
      if (specs.some(({ min, max }) => max > min)) stopFollowing = followPolicy(o, specs, pools)
    },
    async stop() {
      await stopFollowing()
      await Promise.all(pools.map(pool => pool.stop()))
    },
    kill() {
      for (const pool of pools) pool.kill()
    },
  }
}

/** Resizes the pools every two seconds. While Postgres is unavailable they keep their size. @returns how to stop it */
function followPolicy(
  o: { config: Config; databaseUrl: string; holdSeconds?: number },
  specs: PoolSpec[],
  pools: Pool[],
): () => Promise<void> {
  const logger = createLogger({ level: 'silent', name: 'fleet' })
  const db = openDb({ url: o.databaseUrl, max: 2, application: 'sluice-fleet', logger })
  const limits = createLimitsReader({ db, logger })
  const scale = createScale({
    db,
    limitsOf: limits.of,
    config: { ...o.config, WORKER_CONCURRENCY: tasksPerProcess(o.config) },
    ...(o.holdSeconds !== undefined && { holdSeconds: o.holdSeconds }),
  })
  const stop = repeatEvery(
    POLL_MS,
    async () => {
      const all = await scale.read()
      for (const [index, pool] of pools.entries()) {
        pool.resize(scale.workersFor(specs[index]!.queues.flatMap(queue => all.get(queue) ?? [])))
      }
    },
    () => {},
  )
  return async () => {
    await Promise.all([stop(), limits.stop()])
    await db.close()
  }
}

/** Numbers the processes, and counts their ports up from `first`; 0: any free port. */
function createPorts(first: number) {
  const taken = new Set<number>()
  return {
    take() {
      let index = 0
      while (taken.has(index)) index++
      taken.add(index)
      return index
    },
    free: (index: number) => void taken.delete(index),
    of: (index: number) => (first === 0 ? 0 : first + index),
  }
}

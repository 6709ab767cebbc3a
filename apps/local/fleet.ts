import { availableParallelism } from 'node:os'
import { createScale, type QueueScale } from '#shared/autoscale/scale.ts'
import type { Config } from '#shared/config.ts'
import { openDb } from '#shared/db/pool.ts'
import { createLimits } from '#shared/gate/limits.ts'
import { every } from '#shared/lifecycle.ts'
import { createLogger } from '#shared/logger.ts'
import { type FleetReport, REASONS, type Reason } from '#shared/parent.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import type { Child, ChildOptions } from './child.ts'
import { createPool, type Pool, type PoolBounds, type PoolOptions } from './pool.ts'
import type { SuperviseDeps } from './supervise.ts'

const LOOK_MS = 2000

type PoolSpec = { name: string; queues: readonly QueueName[]; args: string[]; bounds: PoolBounds }

/** Batches have processes of their own, so that a task that somebody waits for has an event loop, and a core, to itself. */
export function poolSpecs(config: Config, cores = availableParallelism()): PoolSpec[] {
  const { WORKERS_MIN: min, BATCH_PROCESSES: batch } = config
  const most = (least: number) => Math.max(least, config.WORKERS_MAX ?? cores)
  const tasks = {
    min: config.WORKER_CONCURRENCY,
    max: Math.max(config.WORKER_CONCURRENCY, config.WORKER_CONCURRENCY_MAX),
  }
  const lines = { min: config.BATCH_CONCURRENCY, max: config.BATCH_CONCURRENCY }
  const single = QUEUES.filter(queue => queue !== 'batch')
  // Without any worker for it, a queue is somebody else's: of workers that run elsewhere.
  const workers = {
    name: 'worker',
    queues: batch === 0 ? QUEUES : single,
    args: batch === 0 ? [] : ['--queues', single.join(',')],
    bounds: { min, max: min === 0 ? 0 : most(min), tasks },
  }
  if (batch === 0) return [workers]
  return [
    workers,
    {
      name: 'batch worker',
      queues: ['batch'],
      args: ['--queues', 'batch'],
      bounds: { min: batch, max: most(batch), tasks: lines },
    },
  ]
}

/** Beside what processes hold: the fleet's own, migrations, somebody who looks. */
const OTHER_CONNECTIONS = 12

/** Postgres connections that this machine's processes may come to hold: the API, all workers, and one that takes another's place. */
export const mostConnections = (config: Config, cores = availableParallelism()): number =>
  (poolSpecs(config, cores).reduce((sum, { bounds }) => sum + bounds.max, 0) + 2) * config.DB_POOL + OTHER_CONNECTIONS

/** What a pool is to have for its queues: in a process that runs lines beside tasks, each has slots of its own. */
export function slotsFor(
  queues: readonly QueueName[],
  all: ReadonlyMap<QueueName, Pick<QueueScale, 'slots'>>,
  config: Config,
): number {
  const sum = (batch: boolean) =>
    queues.reduce((sum, queue) => sum + ((queue === 'batch') === batch ? (all.get(queue)?.slots ?? 0) : 0), 0)
  const [tasks, lines] = [sum(false), sum(true)]
  if (tasks === 0 && queues.every(queue => queue === 'batch')) return lines
  const most = Math.max(config.WORKER_CONCURRENCY, config.WORKER_CONCURRENCY_MAX)
  const processes = Math.ceil(lines / config.BATCH_CONCURRENCY)
  return Math.max(tasks, processes === 0 ? 0 : (processes - 1) * most + 1)
}

export type Fleet = {
  /** Starts the least of each pool; rejects with the first that does not start. */
  open(first: <T>(name: string, start: () => Promise<T>) => Promise<T>): Promise<void>
  /** From now on there are as many as there is work for. */
  follow(): void
  stop(): Promise<void>
  kill(): void
}

/** The worker processes of this machine: as many as the policy wants, within the settings. */
export function createFleet(
  o: SuperviseDeps & {
    config: Config
    databaseUrl: string
    startWorker: (
      o: { args: string[]; env: Record<string, string> } & Pick<ChildOptions, 'signal' | 'onMessage'>,
    ) => Promise<Child>
    /** As in `createScale`. */
    holdSeconds?: number
    /** Tells the API, for its metrics. */
    report: (message: FleetReport) => void
  },
): Fleet {
  const { config, log } = o
  const replaced = Object.fromEntries(REASONS.map(reason => [reason, 0])) as Record<Reason, number>
  const ports = createPorts(config.WORKER_PORT)
  const specs = poolSpecs(config)
  const pools = specs.map(spec => createPool({ ...common(spec), ...spec }))
  const stops: (() => unknown)[] = []

  function common(spec: PoolSpec): Omit<PoolOptions, 'name' | 'bounds'> {
    return {
      log,
      now: o.now,
      wait: o.wait,
      takeIndex: ports.take,
      freeIndex: ports.free,
      // Whoever asks for less may wait: a call that is cut off is paid for and made again.
      retireMs: config.CALL_TIMEOUT_SECONDS * 1000,
      maxMb: config.WORKER_MAX_MB,
      onReplaced: reason => void replaced[reason]++,
      start: ({ index, tasks, ...more }) =>
        o.startWorker({
          args: spec.args,
          env: {
            WORKER_PORT: String(ports.of(index)),
            ...(spec.queues.every(queue => queue === 'batch') ? {} : { WORKER_CONCURRENCY: String(tasks) }),
          },
          ...more,
        }),
    }
  }

  return {
    async open(first) {
      // In this order, so that each has the port that it always has.
      await Promise.all(pools.map(pool => pool.open((start, name) => first(name, start))))
    },
    follow() {
      const broke = (error: unknown) => log(`the fleet is not looked after: ${(error as Error).message}`)
      stops.push(
        every(
          LOOK_MS,
          async () => {
            for (const pool of pools) pool.inspect()
            o.report({ type: 'fleet', replaced })
          },
          broke,
        ),
      )
      if (specs.some(({ bounds }) => bounds.max > bounds.min || bounds.tasks.max > bounds.tasks.min))
        stops.push(followPolicy(o, specs, pools))
    },
    async stop() {
      for (const stop of stops.splice(0)) await stop()
      await Promise.all(pools.map(pool => pool.stop()))
    },
    kill() {
      for (const pool of pools) pool.kill()
    },
  }
}

/** Looks every two seconds what is wanted. While Postgres is away everything stays as it is. @returns how to stop it */
function followPolicy(
  o: { config: Config; databaseUrl: string; holdSeconds?: number },
  specs: PoolSpec[],
  pools: Pool[],
): () => Promise<void> {
  const logger = createLogger({ level: 'silent', name: 'fleet' })
  const db = openDb({ url: o.databaseUrl, max: 2, application: 'sluice-fleet', logger })
  const limits = createLimits({ db, logger })
  const scale = createScale({
    db,
    limitsOf: limits.of,
    config: o.config,
    ...(o.holdSeconds !== undefined && { holdSeconds: o.holdSeconds }),
  })
  const stop = every(
    LOOK_MS,
    async () => {
      const all = await scale.look()
      for (const [index, pool] of pools.entries()) pool.resize(slotsFor(specs[index]!.queues, all, o.config))
    },
    () => {},
  )
  return async () => {
    await Promise.all([stop(), limits.stop()])
    await db.close()
  }
}

/** The lowest port that no live process has, counting up from the first; 0: any. */
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

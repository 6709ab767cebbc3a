import { type Job, WaitingError, Worker } from 'bullmq'
import type { RunOutcome } from '#shared/engine/conclude.ts'
import type { Liveness } from '#shared/process/liveness.ts'
import type { Logger } from '#shared/process/logger.ts'
import { parseJobId, queuePrefix } from '#shared/queue/names.ts'
import type { Redis } from '#shared/redis/connect.ts'

/** The sweeper redelivers tasks after a crash, so BullMQ must never give up on a job by itself. */
const MAX_STALLED = 1_000_000

/**
 * Maximum number of slow calls that run beyond `concurrency`, as a multiple of it: the calls of a provider that hangs must not
 * delay the tasks of others. The job of a slow call may end early, because the claim of its task is in Postgres.
 */
const SLOW_FACTOR = 4

export type Consumer = {
  /** Milliseconds since the last job was taken, by queue; a queue without any job so far is absent. */
  fetchedAgoMs(): ReadonlyMap<string, number>
  /** Milliseconds for which the worker of each queue has had a free slot and taken no job. */
  idleMs(): ReadonlyMap<string, number>
  /** Takes no more jobs and resolves when the running ones are done. It can hang while Redis is down, so give it a deadline. */
  stop(): Promise<void>
}

export type ConsumeOptions = {
  queues: readonly string[]
  /** Opens a connection of the role `blocking`, one for each queue. */
  connect: (queue: string) => Redis
  prefix: string
  concurrency: number
  liveness: Pick<Liveness, 'jobLockMs' | 'stalledCheckMs'>
  /** Runs a job, and calls `slow` when its call takes unusually long. */
  run: (job: { id: string; epoch: number }, slow: () => void) => Promise<RunOutcome>
  logger: Logger
}

/** The only place that constructs BullMQ workers. They start fetching at once. */
export function consume(options: ConsumeOptions): Consumer {
  const { run, concurrency, logger } = options
  const fetchedAt = new Map<string, number>()
  /** By queue: the running jobs, and the time since which the worker could have taken another. */
  const slots = new Map(options.queues.map(queue => [queue, { taken: 0, idleSince: performance.now() }]))
  const slow = new Set<Promise<unknown>>()

  async function process(job: Job, token?: string): Promise<void> {
    const now = performance.now()
    fetchedAt.set(job.queueName, now)
    const slot = slots.get(job.queueName)
    if (!slot) return await runJob(job, token)
    slot.taken++
    slot.idleSince = now
    try {
      await runJob(job, token)
    } finally {
      // A worker without a free slot is not idle: its idle time starts now.
      if (slot.taken-- >= concurrency) slot.idleSince = performance.now()
    }
  }

  async function runJob(job: Job, token?: string): Promise<void> {
    const dispatched = parseJobId(job.id ?? '')
    if (!dispatched) {
      logger.warn({ job_id: job.id }, 'ignored a job that Sluice did not add')
      return
    }
    const { promise: becameSlow, resolve: setSlow } = Promise.withResolvers<'slow'>()
    const running = run(dispatched, () => {
      if (slow.size >= concurrency * SLOW_FACTOR) return
      slow.add(running)
      setSlow('slow')
    })
    const outcome = await Promise.race([running, becameSlow])
    if (outcome === 'slow') {
      const done = () => void slow.delete(running)
      running.then(done, error => {
        done()
        logger.error({ err: error, job_id: job.id }, 'a slow job failed outside its run')
      })
    } else if (outcome === 'give_back') {
      await job.moveToWait(token)
      throw new WaitingError()
    }
  }

  const workers = options.queues.map(queue => {
    const worker = new Worker(queue, process, {
      connection: options.connect(queue),
      prefix: queuePrefix(options.prefix, queue),
      concurrency,
      lockDuration: options.liveness.jobLockMs,
      stalledInterval: options.liveness.stalledCheckMs,
      maxStalledCount: MAX_STALLED,
      removeOnComplete: { count: 0 },
      // The sweeper dispatches a task again whose job is missing.
      removeOnFail: { count: 0 },
    })
    // shared/redis/connect.ts logs outages of Redis. Other errors (a lock lost to a flush) do no harm, because Postgres decides
    // which worker holds a task.
    worker.on('error', error => logger.debug({ err: error, queue }, 'bullmq'))
    worker.on('failed', (job, error) =>
      logger.error({ err: error, job_id: job?.id, queue }, 'a job failed outside its run'),
    )
    return worker
  })

  return {
    fetchedAgoMs: () => new Map(Array.from(fetchedAt, ([queue, at]) => [queue, performance.now() - at])),
    idleMs: () => {
      const now = performance.now()
      return new Map(
        [...slots].map(([queue, { taken, idleSince }]) => [queue, taken >= concurrency ? 0 : now - idleSince]),
      )
    },
    stop: async () => {
      await Promise.all(workers.map(worker => worker.close()))
      await Promise.allSettled(slow)
    },
  }
}

export const joinConsumers = (consumers: Consumer[]): Consumer => ({
  fetchedAgoMs: () => new Map(consumers.flatMap(one => [...one.fetchedAgoMs()])),
  idleMs: () => new Map(consumers.flatMap(one => [...one.idleMs()])),
  stop: async () => void (await Promise.all(consumers.map(one => one.stop()))),
})

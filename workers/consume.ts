import { type Job, WaitingError, Worker } from 'bullmq'
import type { Logger } from '#shared/logger.ts'
import { parseJobId, queuePrefix } from '#shared/queue/names.ts'
import type { Redis } from '#shared/redis.ts'
import type { RunOutcome } from './pipeline/run.ts'

/** Redelivery after a crash is the sweeper's business; BullMQ's own must only never give up on a job. */
const MAX_STALLED = 1_000_000
/** Short, since what a killed worker had fetched but not claimed comes back only by this. A lock lost early does no harm. */
const LOCK_MS = 8000
const STALLED_CHECK_MS = 4000

/**
 * Slow calls that a worker lets go on beside its `concurrency`, as a multiple of that: when a provider hangs, its calls
 * must not keep everybody else's tasks waiting. The claim of such a task is in Postgres; the queue's job has done its part.
 */
const SLOW_FACTOR = 4

export type Consumer = {
  /** When a job was last taken from each queue, milliseconds ago; a queue that none was taken from is not there. */
  fetchedAgoMs(): ReadonlyMap<string, number>
  /** For how long each queue's worker could have taken a job and has taken none. */
  hungryMs(): ReadonlyMap<string, number>
  /** How many jobs of each queue it runs at a time from now on. */
  setConcurrency(concurrency: number): void
  /** Takes no more jobs; resolves when those under way are done. Can hang while Redis is down: give it a deadline. */
  stop(): Promise<void>
}

export type ConsumeOptions = {
  queues: readonly string[]
  /** A connection of its own for each queue, of the `blocking` role. */
  connect: (queue: string) => Redis
  prefix: string
  concurrency: number
  /** Calls `slow` when a call takes unusually long. */
  run: (job: { id: string; epoch: number }, slow: () => void) => Promise<RunOutcome>
  logger: Logger
}

/** The only place that constructs a BullMQ Worker. Starts fetching at once. */
export function consume(options: ConsumeOptions): Consumer {
  const { run, logger } = options
  let { concurrency } = options
  const fetchedAt = new Map<string, number>()
  /** Of each queue: the jobs in hand, and since when one more could have been taken. */
  const hands = new Map(options.queues.map(queue => [queue, { taken: 0, hungrySince: performance.now() }]))
  const slow = new Set<Promise<unknown>>()

  async function process(job: Job, token?: string): Promise<void> {
    const now = performance.now()
    fetchedAt.set(job.queueName, now)
    const hand = hands.get(job.queueName)
    if (!hand) return await runJob(job, token)
    hand.taken++
    hand.hungrySince = now
    try {
      await runJob(job, token)
    } finally {
      // Whoever has no hand free is not idle: it begins now.
      if (hand.taken-- >= concurrency) hand.hungrySince = performance.now()
    }
  }

  async function runJob(job: Job, token?: string): Promise<void> {
    const dispatched = parseJobId(job.id ?? '')
    if (!dispatched) {
      logger.warn({ job_id: job.id }, 'a job that Sluice did not add: ignored')
      return
    }
    const { promise: letGo, resolve: beSlow } = Promise.withResolvers<'slow'>()
    const running = run(dispatched, () => {
      if (slow.size >= concurrency * SLOW_FACTOR) return
      slow.add(running)
      beSlow('slow')
    })
    const outcome = await Promise.race([running, letGo])
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
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_MS,
      maxStalledCount: MAX_STALLED,
      removeOnComplete: { count: 0 },
      // A row that says that it is dispatched and has no job is dispatched again.
      removeOnFail: { count: 0 },
    })
    // shared/redis.ts has logged that Redis is away; what else BullMQ reports (a lock lost to a flush) harms nothing,
    // since Postgres decides who holds a task.
    worker.on('error', error => logger.debug({ err: error, queue }, 'bullmq'))
    worker.on('failed', (job, error) =>
      logger.error({ err: error, job_id: job?.id, queue }, 'a job failed outside its run'),
    )
    return worker
  })

  return {
    fetchedAgoMs: () => new Map(Array.from(fetchedAt, ([queue, at]) => [queue, performance.now() - at])),
    hungryMs: () => {
      const now = performance.now()
      return new Map(
        [...hands].map(([queue, { taken, hungrySince }]) => [queue, taken >= concurrency ? 0 : now - hungrySince]),
      )
    },
    setConcurrency(wanted) {
      const before = concurrency
      concurrency = wanted
      for (const worker of workers) {
        worker.concurrency = wanted
        const hand = hands.get(worker.name)!
        if (hand.taken < before || hand.taken >= wanted) continue
        // It has had a hand free from now on only.
        hand.hungrySince = performance.now()
        // BullMQ's loop waits for a job to end, and looks at its concurrency only then; what wakes it is this.
        void worker.pause(true).then(() => worker.resume())
      }
    },
    stop: async () => {
      await Promise.all(workers.map(worker => worker.close()))
      await Promise.allSettled(slow)
    },
  }
}

export const joinConsumers = (consumers: Consumer[]): Consumer => ({
  fetchedAgoMs: () => new Map(consumers.flatMap(one => [...one.fetchedAgoMs()])),
  hungryMs: () => new Map(consumers.flatMap(one => [...one.hungryMs()])),
  setConcurrency(concurrency) {
    for (const one of consumers) one.setConcurrency(concurrency)
  },
  stop: async () => void (await Promise.all(consumers.map(one => one.stop()))),
})

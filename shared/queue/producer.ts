import { type JobJson, Queue } from 'bullmq'
import { coalesce } from '#shared/coalesce.ts'
import type { Dispatchable } from '#shared/db/tasks.ts'
import type { Redis } from '#shared/redis.ts'
import { BULLMQ_PRIORITY, jobId, type Priority, QUEUES, queuePrefix } from './names.ts'

export type Dispatch = Dispatchable & { delayMs?: number }

/** Redis could not be asked. */
export class QueueUnavailable extends Error {
  constructor(cause: unknown) {
    super(`the queue is away: ${(cause as Error | null)?.message ?? String(cause)}`, { cause })
  }
}

export type Producer = {
  /**
   * Hands a task to the queue, which its row already says. Tasks that come together share the round trips.
   * @throws QueueUnavailable; the sweeper will find that the queue has it not
   */
  dispatch(task: Dispatch): Promise<void>
  /** Runs delayed jobs now, given as `<queue> <job id>`. One that is not there, or not delayed, is left alone. */
  wake(jobs: string[]): Promise<void>
  /** False: asking would fail at once. */
  ready(): boolean
  /** Those that the queue has not: neither waiting nor delayed nor in a worker's hands. @throws QueueUnavailable */
  missing<T extends Dispatchable>(tasks: T[]): Promise<T[]>
  /** The queues themselves, for the dashboard. */
  queues(): Queue[]
  close(): Promise<void>
}

/** The only place that adds jobs. `redis` must fail fast. */
export function createProducer(options: { redis: Redis; prefix: string }): Producer {
  const { redis, prefix } = options
  const open = (name: string): Queue => {
    const queue = new Queue(name, {
      connection: redis,
      prefix: queuePrefix(prefix, name),
    })
    // BullMQ re-emits connection errors here; shared/redis.ts has logged them.
    queue.on('error', () => {})
    return queue
  }
  const queues = new Map<string, Queue>(QUEUES.map(name => [name, open(name)]))

  async function add(name: string, tasks: Dispatch[]): Promise<void> {
    const queue = queues.get(name)
    if (!queue) throw new Error(`no queue "${name}"`)
    // Until Redis has been there once, BullMQ would wait for it without limit.
    if (redis.status !== 'ready') throw new Error(`the connection is ${redis.status}`)
    try {
      await queue.waitUntilReady()
    } catch (error) {
      // Its initialisation failed half way (Redis went away in it), and BullMQ never repeats that.
      queues.set(name, open(name))
      throw error
    }
    // Not addBulk: the Job object that it makes of each costs more than the rest of the way to Redis.
    await queue.getBackend().addJobs(tasks.map(task => ({ job: toJob(task), jobId: jobId(task) })))
  }

  const dispatch = coalesce<Dispatch, void>({
    max: 500,
    itemsToBlame: () => false,
    flush: async tasks => {
      const groups = [...Map.groupBy(tasks, task => task.queue)]
      await asking(() => Promise.all(groups.map(([name, group]) => add(name, group))))
      return tasks.map(() => undefined)
    },
  })

  const exists = async (task: Dispatchable): Promise<boolean> =>
    (await redis.exists(`${queuePrefix(prefix, task.queue)}:${task.queue}:${jobId(task)}`)) > 0

  return {
    dispatch,
    async wake(jobs) {
      await Promise.all(
        jobs.map(async one => {
          const [name = '', id = ''] = one.split(' ')
          const job = await queues.get(name)?.getJob(id)
          // It may have been woken by its own time between the two.
          await job?.promote().catch(() => undefined)
        }),
      )
    },
    ready: () => redis.status === 'ready',
    missing: tasks =>
      asking(async () => {
        const there = await Promise.all(tasks.map(exists))
        return tasks.filter((_, index) => !there[index])
      }),
    queues: () => [...queues.values()],
    close: async () => {
      await Promise.all([...queues.values()].map(queue => queue.close()))
    },
  }
}

async function asking<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw new QueueUnavailable(error)
  }
}

const toJob = (task: Dispatch): JobJson => ({
  id: jobId(task),
  name: 'task',
  data: '{}',
  opts: {
    jobId: jobId(task),
    attempts: 0,
    priority: BULLMQ_PRIORITY[task.priority as Priority] ?? BULLMQ_PRIORITY.normal,
    ...(task.delayMs && { delay: Math.ceil(task.delayMs) }),
  },
  timestamp: Date.now(),
  progress: 0,
  attemptsMade: 0,
  attemptsStarted: 0,
  stalledCounter: 0,
  failedReason: 'null',
  returnvalue: 'null',
})

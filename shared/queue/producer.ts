import { type JobJson, Queue } from 'bullmq'
import { coalesce } from '#shared/concurrency/coalesce.ts'
import type { Dispatchable } from '#shared/db/tasks/row.ts'
import { now } from '#shared/process/clock.ts'
import type { Redis } from '#shared/redis/connect.ts'
import { defineMissing } from './missing.ts'
import { BULLMQ_PRIORITY, jobId, type Priority, QUEUES, queuePrefix } from './names.ts'

export type Dispatch = Dispatchable & { delayMs?: number }

/** Redis is unavailable. */
export class QueueUnavailable extends Error {
  constructor(cause: unknown) {
    super(`the queue is unavailable: ${(cause as Error | null)?.message ?? String(cause)}`, { cause })
  }
}

export type Producer = {
  /**
   * Adds a task to the queue; its row already says that it is dispatched. Concurrent tasks share the round trips.
   * @throws QueueUnavailable; the sweeper dispatches the task later
   */
  dispatch(task: Dispatch): Promise<void>
  /** Promotes delayed jobs, given as `<queue> <job id>`. Ignores a job that is unknown or not delayed. */
  wake(jobs: string[]): Promise<void>
  /** False: a command would fail at once. */
  ready(): boolean
  /**
   * The tasks that the queue has lost: not waiting, not delayed and not active. They can be dispatched again.
   * @throws QueueUnavailable
   */
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
    // BullMQ re-emits connection errors here; shared/redis/connect.ts has logged them.
    queue.on('error', () => {})
    return queue
  }
  const queues = new Map<string, Queue>(QUEUES.map(name => [name, open(name)]))

  async function add(name: string, tasks: Dispatch[]): Promise<void> {
    const queue = queues.get(name)
    if (!queue) throw new Error(`no queue "${name}"`)
    // Before the first connection, BullMQ would wait for Redis without limit.
    if (redis.status !== 'ready') throw new Error(`the connection is ${redis.status}`)
    try {
      await queue.waitUntilReady()
    } catch (error) {
      // Redis became unavailable during the initialisation, which BullMQ never repeats.
      queues.set(name, open(name))
      throw error
    }
    // Not addBulk: its Job objects cost more CPU than the commands themselves.
    await queue.getBackend().addJobs(tasks.map(task => ({ job: toJob(task), jobId: jobId(task) })))
  }

  const dispatch = coalesce<Dispatch, void>({
    max: 500,
    splitOnError: () => false,
    flush: async tasks => {
      const groups = [...Map.groupBy(tasks, task => task.queue)]
      await wrapUnavailable(() => Promise.all(groups.map(([name, group]) => add(name, group))))
      return tasks.map(() => undefined)
    },
  })

  const missing = defineMissing(redis, prefix)

  return {
    dispatch,
    async wake(jobs) {
      await Promise.all(
        jobs.map(async one => {
          const [name = '', id = ''] = one.split(' ')
          const job = await queues.get(name)?.getJob(id)
          // Its delay may have ended between the two commands.
          await job?.promote().catch(() => undefined)
        }),
      )
    },
    ready: () => redis.status === 'ready',
    missing: tasks =>
      wrapUnavailable(async () => {
        const groups = Map.groupBy(tasks, task => task.queue)
        const lost = await Promise.all(
          [...groups].map(async ([queue, group]) => {
            const ids = await missing(queue, group.map(jobId))
            return group.filter(task => ids.has(jobId(task)))
          }),
        )
        return lost.flat()
      }),
    queues: () => [...queues.values()],
    close: async () => {
      await Promise.all([...queues.values()].map(queue => queue.close()))
    },
  }
}

async function wrapUnavailable<T>(work: () => Promise<T>): Promise<T> {
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
  timestamp: Math.floor(now()),
  progress: 0,
  attemptsMade: 0,
  attemptsStarted: 0,
  stalledCounter: 0,
  failedReason: 'null',
  returnvalue: 'null',
})

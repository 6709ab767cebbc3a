import { type JobJson, Queue } from 'bullmq'
import { coalesce } from '#shared/coalesce.ts'
import { withdrawDispatches } from '#shared/db/dispatches.ts'
import { persist } from '#shared/db/persist.ts'
import type { Db } from '#shared/db/pool.ts'
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
   * @throws QueueUnavailable; the row then no longer says so, and the sweeper dispatches it
   */
  dispatch(task: Dispatch): Promise<void>
  /** Resolves when nothing is on its way, to the queue or, withdrawn, back to its row. */
  idle(): Promise<void>
  /** The queues themselves, for the dashboard. */
  queues: Queue[]
  /** True once after Redis restarted or was flushed: what had been dispatched may be gone. */
  wasLost(): Promise<boolean>
  /** To be called when the loss has been made good. */
  remember(): Promise<void>
  close(): Promise<void>
}

/** The only place that adds jobs. `redis` must fail fast. */
export function createProducer(options: { redis: Redis; prefix: string; db: Db }): Producer {
  const { redis, prefix, db } = options
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

  const underWay = new Set<Promise<unknown>>()
  const tracked = <T>(work: Promise<T>): Promise<T> => {
    underWay.add(work)
    const done = () => void underWay.delete(work)
    work.then(done, done)
    return work
  }

  const dispatch = coalesce<Dispatch, void>({
    max: 500,
    itemsToBlame: () => false,
    flush: async tasks => {
      const groups = [...Map.groupBy(tasks, task => task.queue)]
      try {
        await asking(() => Promise.all(groups.map(([name, group]) => add(name, group))))
      } catch (error) {
        // Not awaited: Postgres may be away as well, for long.
        void tracked(persist(() => withdrawDispatches(db, tasks)))
        throw error
      }
      return tasks.map(() => undefined)
    },
  })

  // Redis knows its own run id; a copy of it in the data is gone after a flush and wrong after a restart.
  const marker = `{${prefix}}:run-id`
  const runId = async () => /^run_id:(\S+)/m.exec(await redis.info('server'))?.[1] ?? ''

  return {
    dispatch: task => tracked(dispatch(task)),
    async idle() {
      while (underWay.size > 0) await Promise.allSettled(underWay)
    },
    queues: [...queues.values()],
    wasLost: () => asking(async () => (await redis.get(marker)) !== (await runId())),
    remember: () => asking(async () => void (await redis.set(marker, await runId()))),
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

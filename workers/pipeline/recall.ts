import type { Cache, CacheEntry } from '#shared/cache.ts'
import { persist } from '#shared/db/persist.ts'
import type { RunnableTask } from '#shared/db/tasks.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import type { Metrics } from '#shared/metrics.ts'

/** `lead`: nobody has the answer, this task is to get it. `follows`: it waits for the answer of another, in no queue. */
export type Recalled = { kind: 'hit'; entry: CacheEntry } | { kind: 'lead' } | { kind: 'follows' }

export type Recall = {
  /** Before anything is spent on a task. */
  look(task: RunnableTask): Promise<Recalled>
  /** Whatever is remembered, however old; null: nothing. */
  stale(task: RunnableTask): Promise<{ entry: CacheEntry; fresh: boolean } | null>
  /** An answer that may be given again. Before the task ends: whoever comes between must find one or the other. */
  remember(
    task: RunnableTask,
    kind: JobKind,
    answer: { result: unknown; provider: string; model: string },
  ): Promise<void>
  /** The task has ended: it leads no more. */
  landed(task: RunnableTask): void
}

/**
 * A task that would rather fail or make do than wait must not wait for one that would rather wait, nor one that is urgent
 * for one that is not.
 */
const amongOf = ({ priority, options }: RunnableTask): string => {
  const { on_budget = 'fallback', fallback = '', cache } = options as TaskOptions
  return `${priority} ${on_budget} ${fallback} ${cache}`
}

const OUTCOMES = { hit: 'hit', lead: 'miss', follows: 'follow' } as const

/** After that a task calls for itself: while a provider is down, each leader that fails costs its followers its time. */
const MOST_DISPATCHES = 3
/** With less to its deadline a task does not wait for others. */
const LEAST_LEFT_MS = 6000
/** Another may take the lead between two looks; in the end everybody may call for himself. */
const LOOKS = 3

export function createRecall(deps: {
  cache: Cache
  follow: (task: { id: string; epoch: number; leaderId: string }) => Promise<boolean>
  metrics: Pick<Metrics, 'cache'>
}): Recall {
  const { cache, follow, metrics } = deps
  const count = (task: RunnableTask, found: Recalled): Recalled => {
    metrics.cache.inc({ kind: task.kind, outcome: OUTCOMES[found.kind] })
    return found
  }
  return {
    async look(task) {
      const key = task.cache_key
      if (!key) return { kind: 'lead' }
      const refresh = (task.options as TaskOptions).cache === 'refresh'
      if (task.batch_id) {
        // A line neither leads nor follows: nobody is to wait for a batch's turn.
        const found = refresh ? null : await cache.get(key)
        return count(task, found?.kind === 'fresh' ? { kind: 'hit', entry: found.entry } : { kind: 'lead' })
      }
      const among = amongOf(task)
      const ttlMs = Math.max(1000, task.left_ms)
      // Only Postgres knows whether a leader is still live; Redis only proposes one.
      let takeFrom: string | undefined
      for (let n = 0; n < LOOKS; n++) {
        const found = await cache.lookUp(key, task.id, { refresh, ttlMs, among, ...(takeFrom && { takeFrom }) })
        if (found.kind !== 'follow') return count(task, found)
        if (task.epoch >= MOST_DISPATCHES || task.left_ms < LEAST_LEFT_MS) break
        const { leaderId } = found
        if (await persist(() => follow({ id: task.id, epoch: task.epoch, leaderId })))
          return count(task, { kind: 'follows' })
        takeFrom = leaderId
      }
      return count(task, { kind: 'lead' })
    },
    async stale(task) {
      if (!task.cache_key) return null
      const found = await cache.get(task.cache_key)
      return found && { entry: found.entry, fresh: found.kind === 'fresh' }
    },
    async remember(task, kind, answer) {
      if (task.cache_key && kind.cache) await cache.put(task.cache_key, answer, kind.cache)
    },
    landed(task) {
      if (task.cache_key && !task.batch_id) void cache.land(task.cache_key, task.id, amongOf(task))
    },
  }
}

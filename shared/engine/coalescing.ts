import type { Cache, CachedAnswer, CacheEntry } from '#shared/cache/cache.ts'
import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import type { Metrics } from '#shared/metrics/metrics.ts'

/** `lead`: this task has to get the answer. `follows`: it waits outside the queue for the answer of its leader. */
export type CoalesceOutcome = { kind: 'hit'; entry: CacheEntry } | { kind: 'lead' } | { kind: 'follows' }

export type Coalescing = {
  /** Looks for the answer before anything is spent on the task. */
  lookUp(task: RunnableTask): Promise<CoalesceOutcome>
  /** The cached answer, fresh or stale; null: there is none. */
  findStale(task: RunnableTask): Promise<{ entry: CacheEntry; fresh: boolean } | null>
  /** Caches an answer. Call it before the task ends, so that an identical task finds the leader or the answer. */
  remember(task: RunnableTask, kind: JobKind, answer: CachedAnswer): Promise<void>
  /** Call it when the task has ended. */
  releaseLead(task: RunnableTask): void
}

/**
 * Only tasks with the same priority and the same rules for waiting and fallback follow each other. An urgent task must
 * not wait for a low one, nor a task that falls back at once for a task that waits for its budget.
 */
const coalesceGroupOf = ({ priority, options }: RunnableTask): string => {
  const { on_budget = 'fallback', fallback = '', cache } = options as TaskOptions
  return `${priority} ${on_budget} ${fallback} ${cache}`
}

const OUTCOMES = { hit: 'hit', lead: 'miss', follows: 'follow' } as const

/** After this many dispatches a task calls by itself: each leader that fails costs its followers time. */
const MAX_DISPATCHES = 3
/** With less time left, a task does not follow. */
const MIN_LEFT_MS = 6000
/** Another task may take the lead between two lookups. After this many, the task calls by itself. */
const MAX_LOOKUPS = 3

export function createCoalescing(deps: {
  cache: Cache
  follow: (task: { id: string; epoch: number; leaderId: string }) => Promise<boolean>
  metrics: Pick<Metrics, 'cache'>
}): Coalescing {
  const { cache, follow, metrics } = deps
  const count = (task: RunnableTask, found: CoalesceOutcome): CoalesceOutcome => {
    metrics.cache.inc({ kind: task.kind, outcome: OUTCOMES[found.kind] })
    return found
  }
  return {
    async lookUp(task) {
      const key = task.cache_key
      if (!key) return { kind: 'lead' }
      const refresh = (task.options as TaskOptions).cache === 'refresh'
      if (task.batch_id) {
        // A line neither leads nor follows: no task should wait until a batch gets its turn.
        const found = refresh ? null : await cache.get(key)
        return count(task, found?.kind === 'fresh' ? { kind: 'hit', entry: found.entry } : { kind: 'lead' })
      }
      const coalesceGroup = coalesceGroupOf(task)
      const ttlMs = Math.max(1000, task.left_ms)
      // Redis proposes a leader. Only Postgres knows whether it is still live.
      let replaceLeader: string | undefined
      for (let n = 0; n < MAX_LOOKUPS; n++) {
        const found = await cache.lookUp(key, task.id, {
          refresh,
          ttlMs,
          coalesceGroup,
          ...(replaceLeader && { replaceLeader }),
        })
        if (found.kind !== 'follow') return count(task, found)
        if (task.epoch >= MAX_DISPATCHES || task.left_ms < MIN_LEFT_MS) break
        const { leaderId } = found
        if (await retryUnavailable(() => follow({ id: task.id, epoch: task.epoch, leaderId })))
          return count(task, { kind: 'follows' })
        replaceLeader = leaderId
      }
      return count(task, { kind: 'lead' })
    },
    async findStale(task) {
      if (!task.cache_key) return null
      const found = await cache.get(task.cache_key)
      return found && { entry: found.entry, fresh: found.kind === 'fresh' }
    },
    async remember(task, kind, answer) {
      if (task.cache_key && kind.cache) await cache.put(task.cache_key, answer, kind.cache)
    },
    releaseLead(task) {
      if (task.cache_key && !task.batch_id) void cache.releaseLead(task.cache_key, task.id, coalesceGroupOf(task))
    },
  }
}

import type { Config } from '#shared/config.ts'
import {
  type CallStats,
  type Capacity,
  type RunningTasks,
  readCalls,
  readCapacity,
  readRunning,
  readWaitingLines,
  readWaitingTasks,
  type WaitingTasks,
} from '#shared/db/backlog-stats.ts'
import type { Db } from '#shared/db/pool.ts'
import { canonicalTarget, type Target, targetName } from '#shared/gate/target.ts'
import type { GateLimits } from '#shared/gate/types.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import { decide, type Load, type Rules, type ScaleState } from './policy.ts'
import { usableSlots } from './usable.ts'

/** How old an answer may be. Concurrent callers share one read. */
const FRESH_MS = 2000
const HOLD_SECONDS = 60
/** A bound beyond any use. The real ones are rate limits, KEDA's maxReplicaCount and WORKERS_MAX. */
const MAX_SLOTS = 1_000_000
/** Duration of a call while none has been answered. */
const DEFAULT_CALL_SECONDS = 2

export type QueueScale = {
  queue: QueueName
  /** Wanted tasks at a time; for `batch`, lines. */
  slots: number
  /** Waiting tasks, and their work in slot-seconds. `atLeast`: there are more. */
  waiting: number
  atLeast: boolean
  waitingSeconds: number
  oldestWaitSeconds: number
  active: number
  liveSlots: number
  liveWorkers: number
  /** Slots that the providers' limits can use; null: unlimited. */
  usableSlots: number | null
}

export type Scale = {
  /** @throws DatabaseUnavailable, GateUnavailable */
  read(): Promise<ReadonlyMap<QueueName, QueueScale>>
  /** The number of workers for the slots of these queues, if the same processes serve them. */
  workersFor(queues: QueueScale[]): number
}

type Figures = { waiting: WaitingTasks[]; running: RunningTasks[]; calls: CallStats[]; capacity: Capacity[] }

/**
 * How many slots each queue needs, from Postgres alone. It remembers its decisions. Another process decides from the same
 * figures, and after a restart the live fleet replaces the last decision.
 */
export function createScale(options: {
  db: Db
  limitsOf: (target: Target) => GateLimits
  config: Pick<Config, 'SCALE_TARGET_SECONDS' | 'WORKER_CONCURRENCY' | 'BATCH_CONCURRENCY' | 'liveness'>
  /** A fleet shrinks only to the maximum wanted within this time. */
  holdSeconds?: number
  now?: () => number
}): Scale {
  const { db, config, limitsOf, holdSeconds = HOLD_SECONDS, now = () => performance.now() } = options
  const states = new Map<QueueName, ScaleState>()
  let last: { at: number; answer: Promise<ReadonlyMap<QueueName, QueueScale>> } | null = null

  async function compute(): Promise<ReadonlyMap<QueueName, QueueScale>> {
    const [tasks, lines, running, calls, capacity] = await Promise.all([
      readWaitingTasks(db),
      readWaitingLines(db),
      readRunning(db),
      readCalls(db),
      readCapacity(db, config.liveness.deadAfterMs),
    ])
    const figures = { waiting: [...tasks, ...lines], running, calls, capacity }
    const usable = usableOf(calls, limitsOf)
    const seconds = secondsByKind(calls)
    return new Map(QUEUES.map(queue => [queue, scaleOf(queue, figures, usable, seconds)] as const))
  }

  function scaleOf(
    queue: QueueName,
    figures: Figures,
    usable: number | null,
    seconds: (kind: string) => number,
  ): QueueScale {
    const rows = figures.waiting.filter(row => row.queue === queue)
    const sum = (of: (row: WaitingTasks) => number) => rows.reduce((sum, row) => sum + of(row), 0)
    const serving = figures.capacity.filter(row => row.queues.includes(queue))
    const liveWorkers = serving.reduce((sum, row) => sum + row.workers, 0)
    const load: Load = {
      waitingSeconds: sum(row => row.waiting * seconds(row.kind)),
      soonSeconds: sum(row => row.soon * seconds(row.kind)),
      oldestWaitSeconds: Math.max(0, ...rows.map(row => row.oldest_seconds)),
      active: running(figures, queue),
      // A worker runs lines besides its tasks; its row does not count them.
      ...(queue === 'batch'
        ? { slots: liveWorkers * config.BATCH_CONCURRENCY }
        : {
            slots: serving.reduce((sum, row) => sum + row.slots, 0),
            ownSlots: serving.reduce((sum, row) => sum + shareOf(row, queue, figures), 0),
          }),
      usable,
    }
    const decision = decide(load, states.get(queue) ?? null, { ...rulesOf(queue, config), holdSeconds }, now() / 1000)
    states.set(queue, decision.state)
    return {
      queue,
      slots: decision.slots,
      waiting: sum(row => row.waiting),
      atLeast: rows.some(row => row.at_least),
      waitingSeconds: load.waitingSeconds,
      oldestWaitSeconds: load.oldestWaitSeconds,
      active: load.active,
      liveSlots: load.slots,
      liveWorkers,
      usableSlots: usable,
    }
  }

  return {
    read() {
      if (last && now() - last.at < FRESH_MS) return last.answer
      // Until it has finished, callers share it, however long it takes.
      const pending = { at: Number.POSITIVE_INFINITY, answer: compute() }
      last = pending
      pending.answer.then(
        () => {
          pending.at = now()
        },
        () => {
          if (last === pending) last = null
        },
      )
      return pending.answer
    },
    workersFor(queues) {
      const slots = (batch: boolean) =>
        queues.filter(one => (one.queue === 'batch') === batch).reduce((sum, one) => sum + one.slots, 0)
      return Math.max(
        Math.ceil(slots(false) / config.WORKER_CONCURRENCY),
        Math.ceil(slots(true) / config.BATCH_CONCURRENCY),
      )
    },
  }
}

const running = (figures: Figures, queue: QueueName) => figures.running.find(row => row.queue === queue)?.running ?? 0

/** A queue's share of workers that serve several queues: by their running tasks, or equal while none runs. */
function shareOf({ queues, slots }: Capacity, queue: QueueName, figures: Figures): number {
  const shared = QUEUES.filter(one => one !== 'batch' && queues.includes(one))
  const used = shared.reduce((sum, one) => sum + running(figures, one), 0)
  return used > 0 ? (slots * running(figures, queue)) / used : slots / shared.length
}

/** Relative to the target of `default`: moderation cannot wait, and no client waits for a batch. */
const TARGET_SHARE: Record<QueueName, number> = { default: 1, moderate: 0.2, batch: 30 }

const rulesOf = (queue: QueueName, config: Pick<Config, 'SCALE_TARGET_SECONDS'>): Omit<Rules, 'holdSeconds'> => ({
  targetSeconds: config.SCALE_TARGET_SECONDS * TARGET_SHARE[queue],
  min: 0,
  max: MAX_SLOTS,
})

/** The mean duration of a kind's calls; of all calls for a kind without recent ones. */
function secondsByKind(calls: CallStats[]): (kind: string) => number {
  const mean = (rows: CallStats[]) => {
    const answered = rows.reduce((sum, row) => sum + row.answered, 0)
    return answered > 0 ? rows.reduce((sum, row) => sum + (row.call_seconds ?? 0) * row.answered, 0) / answered : null
  }
  const all = mean(calls) ?? DEFAULT_CALL_SECONDS
  const byKind = new Map([...Map.groupBy(calls, row => row.kind)].map(([kind, rows]) => [kind, mean(rows) ?? all]))
  return kind => byKind.get(kind) ?? all
}

/** By the recently called targets. A failover calls another target, which then counts. */
function usableOf(calls: CallStats[], limitsOf: (target: Target) => GateLimits): number | null {
  const byTarget = Map.groupBy(calls, row => targetName(canonicalTarget(row)))
  return usableSlots(
    [...byTarget.values()].map(rows => {
      const { provider, model, span_seconds } = rows[0]!
      const sum = (of: (row: CallStats) => number) => rows.reduce((sum, row) => sum + of(row), 0)
      const answered = sum(row => row.answered)
      const mean = (of: (row: CallStats) => number | null) =>
        answered > 0 ? sum(row => (of(row) ?? 0) * row.answered) / answered : null
      return {
        limits: limitsOf({ provider, model }),
        calls: sum(row => row.calls),
        answered,
        brokenSince: sum(row => row.broken_since),
        spanSeconds: span_seconds,
        callSeconds: mean(row => row.call_seconds),
        inputTokens: mean(row => row.input_tokens),
        outputTokens: mean(row => row.output_tokens),
      }
    }),
  )
}

import type { Config } from '#shared/config.ts'
import {
  type Calls,
  type Capacity,
  type Running,
  readCalls,
  readCapacity,
  readRunning,
  readWaiting,
  readWaitingLines,
  type Waiting,
} from '#shared/db/load.ts'
import type { Db } from '#shared/db/pool.ts'
import { targetName } from '#shared/gate/script.ts'
import { targetOf } from '#shared/gate/target.ts'
import type { GateLimits, Target } from '#shared/gate/types.ts'
import { QUEUES, type QueueName } from '#shared/queue/names.ts'
import { decide, type Load, type Rules, type ScaleState } from './policy.ts'
import { usableSlots } from './usable.ts'

/** How old an answer may be. Whoever asks together shares one look. */
const FRESH_MS = 2000
const HOLD_SECONDS = 60
/** Nothing is known to want more; where to stop is said by limits, by KEDA's maxReplicaCount or by WORKERS_MAX. */
const MOST_SLOTS = 1_000_000
/** What a task takes, while none of its kind has been answered. */
const GUESS_SECONDS = 2

export type QueueScale = {
  queue: QueueName
  /** Tasks at a time (of `batch`: lines) that are wanted. */
  slots: number
  /** What waits: tasks, and their work in slot-seconds. `atLeast`: there are more. */
  waiting: number
  atLeast: boolean
  waitingSeconds: number
  oldestWaitSeconds: number
  active: number
  liveSlots: number
  liveWorkers: number
  /** What the providers' limits can use; null: unlimited. */
  usableSlots: number | null
}

export type Scale = {
  /** @throws DatabaseUnavailable, GateUnavailable */
  look(): Promise<ReadonlyMap<QueueName, QueueScale>>
  /** Workers that it takes for the slots of these queues, run by the same processes. */
  workersFor(queues: QueueScale[]): number
}

type Figures = { waiting: Waiting[]; running: Running[]; calls: Calls[]; capacity: Capacity[] }

/**
 * How many slots each queue wants, by Postgres alone. Remembers what it decided; another process decides by the same figures,
 * and after a restart the live fleet stands for what was decided before.
 */
export function createScale(options: {
  db: Db
  limitsOf: (target: Target) => GateLimits
  config: Pick<Config, 'SCALE_TARGET_SECONDS' | 'WORKER_CONCURRENCY' | 'BATCH_CONCURRENCY'>
  /** Fleets shrink to the most that was wanted within so many seconds. */
  holdSeconds?: number
  now?: () => number
}): Scale {
  const { db, config, limitsOf, holdSeconds = HOLD_SECONDS, now = () => performance.now() } = options
  const states = new Map<QueueName, ScaleState>()
  let last: { at: number; answer: Promise<ReadonlyMap<QueueName, QueueScale>> } | null = null

  async function look(): Promise<ReadonlyMap<QueueName, QueueScale>> {
    const [tasks, lines, running, calls, capacity] = await Promise.all([
      readWaiting(db),
      readWaitingLines(db),
      readRunning(db),
      readCalls(db),
      readCapacity(db),
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
    const sum = (of: (row: Waiting) => number) => rows.reduce((sum, row) => sum + of(row), 0)
    const serving = figures.capacity.filter(row => row.queues.includes(queue))
    const liveWorkers = serving.reduce((sum, row) => sum + row.workers, 0)
    const load: Load = {
      waitingSeconds: sum(row => row.waiting * seconds(row.kind)),
      soonSeconds: sum(row => row.soon * seconds(row.kind)),
      oldestWaitSeconds: Math.max(0, ...rows.map(row => row.oldest_seconds)),
      active: running(figures, queue),
      // A worker's lines are counted beside its tasks, and are not in its row.
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
    look() {
      if (last && now() - last.at < FRESH_MS) return last.answer
      const mine = { at: now(), answer: look() }
      last = mine
      mine.answer.catch(() => {
        if (last === mine) last = null
      })
      return mine.answer
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

/** Of the slots of workers that serve several queues, as many as a queue uses of what is used; while none is, each the same. */
function shareOf({ queues, slots }: Capacity, queue: QueueName, figures: Figures): number {
  const shared = QUEUES.filter(one => one !== 'batch' && queues.includes(one))
  const used = shared.reduce((sum, one) => sum + running(figures, one), 0)
  return used > 0 ? (slots * running(figures, queue)) / used : slots / shared.length
}

/** Of the time that a task of `default` may wait: who moderates cannot wait, and nobody waits for a batch. */
const TARGET_SHARE: Record<QueueName, number> = { default: 1, moderate: 0.2, batch: 30 }

const rulesOf = (queue: QueueName, config: Pick<Config, 'SCALE_TARGET_SECONDS'>): Omit<Rules, 'holdSeconds'> => ({
  targetSeconds: config.SCALE_TARGET_SECONDS * TARGET_SHARE[queue],
  min: 0,
  max: MOST_SLOTS,
})

/** What a task of a kind takes on average; of a kind that nobody has called lately, what all take. */
function secondsByKind(calls: Calls[]): (kind: string) => number {
  const mean = (rows: Calls[]) => {
    const answered = rows.reduce((sum, row) => sum + row.answered, 0)
    return answered > 0 ? rows.reduce((sum, row) => sum + (row.call_seconds ?? 0) * row.answered, 0) / answered : null
  }
  const all = mean(calls) ?? GUESS_SECONDS
  const byKind = new Map([...Map.groupBy(calls, row => row.kind)].map(([kind, rows]) => [kind, mean(rows) ?? all]))
  return kind => byKind.get(kind) ?? all
}

/** By the targets that were called lately. What fails over to another target calls that one, which then counts. */
function usableOf(calls: Calls[], limitsOf: (target: Target) => GateLimits): number | null {
  const byTarget = Map.groupBy(calls, row => targetName(targetOf(row)))
  return usableSlots(
    [...byTarget.values()].map(rows => {
      const { provider, model, span_seconds } = rows[0]!
      const sum = (of: (row: Calls) => number) => rows.reduce((sum, row) => sum + of(row), 0)
      const answered = sum(row => row.answered)
      const mean = (of: (row: Calls) => number | null) =>
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

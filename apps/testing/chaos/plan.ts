import { createPrices } from '#shared/models/prices.ts'
import { createRandom, type Random } from './random.ts'

/** The plan of a run, drawn from the seed before the run begins. */

export type ChaosOptions = {
  seed: number
  faults: number
  tasks: number
  /** Time in which every task must end. */
  seconds: number
}

export const PROVIDERS = ['anthropic', 'openai'] as const
export type ProviderName = (typeof PROVIDERS)[number]
export const MODELS: Record<ProviderName, string> = { anthropic: 'claude-haiku-5-5', openai: 'gpt-5.4-mini' }

export const KEYS = ['one', 'two', 'three', 'tight'] as const
export type KeyName = (typeof KEYS)[number]

export type TaskPlan = {
  index: number
  /** Part of the prompt by which the upstream recognises the task. Identical tasks share it. */
  marker: string
  key: KeyName
  /** Milliseconds from the beginning. */
  atMs: number
  options: Record<string, unknown>
  /** null: as long as the run lasts. */
  deadlineSeconds: number | null
  cancelAfterMs: number | null
  /** The client waits for the end and records it. */
  watched: boolean
}

export const FAULT_KINDS = [
  ...(['worker', 'api', 'redis', 'postgres', 'flush', 'stop', 'burst'] as const),
  ...(['failover', 'partial', 'older', 'clock'] as const),
] as const
export type FaultKind = (typeof FAULT_KINDS)[number]
export type FaultPlan = {
  kind: FaultKind
  atMs: number
  /** Time until the victim is started again, or duration of the fault. */
  forMs: number
  /** Picks the victim; in [0, 1). */
  draw: number
}

export type Limits = { rpm: number; tpm: number; concurrency: number }
export type Plan = ReturnType<typeof makePlan>

const FAULT_WEIGHTS: Record<FaultKind, number> = {
  worker: 20,
  api: 10,
  redis: 10,
  postgres: 8,
  flush: 8,
  stop: 12,
  burst: 12,
  failover: 6,
  partial: 6,
  older: 6,
  clock: 6,
}
/** The part of a run in which tasks are submitted; faults go on a little longer. */
const SUBMIT_PART = 0.55
/** No fault before this time, so that the first tasks find everything up. */
const FIRST_FAULT_MS = 1500
/** The anthropic limit as a share of the tasks in a minute. Tasks that name no model use what the others leave of it. */
const REACHED_PART = 0.15
/** The share of tasks that name the anthropic model. They fit under its limit. */
const ASKED_PART = 0.12
const MAX_TOKENS = 64
/** Approximate tokens of a task: a short prompt and a short answer. */
const REAL = { inputTokens: 10, outputTokens: 35, cacheReadTokens: 0, cacheWriteTokens: 0 }
const BOOKED = { inputTokens: 250, outputTokens: MAX_TOKENS }

export function makePlan(options: ChaosOptions) {
  const { seed, seconds } = options
  const submitMs = seconds * 1000 * SUBMIT_PART
  const tasks = planTasks(createRandom(seed, 'tasks'), options.tasks, submitMs)
  const faults = planFaults(createRandom(seed, 'faults'), options.faults, seconds * 600)
  return {
    ...options,
    submitMs,
    /** Deadline of tasks without a short one. */
    tasksEndMs: seconds * 900,
    tasks,
    faults,
    limits: planLimits(options.tasks, seconds),
    tightLimitUsd: tightLimit(tasks.filter(one => one.key === 'tight').length),
  }
}

function planTasks(random: Random, count: number, submitMs: number): TaskPlan[] {
  const tasks: TaskPlan[] = []
  while (tasks.length < count) {
    const first = planTask(random, submitMs)
    // Identical tasks come within 1.5 s: some while the first is in flight, some after it.
    const copies = random.chance(0.03) ? random.int(2, 6) : 1
    for (let copy = 0; copy < copies && tasks.length < count; copy++) {
      const atMs = copy === 0 ? first.atMs : Math.min(submitMs, first.atMs + random.between(0, 1500))
      tasks.push({ ...first, atMs, index: tasks.length, marker: `m${tasks.length - copy}` })
    }
  }
  return tasks.toSorted((a, b) => a.atMs - b.atMs)
}

function planTask(random: Random, submitMs: number): Omit<TaskPlan, 'index' | 'marker'> {
  const key = random.weighted({ one: 45, two: 25, three: 15, tight: 15 })
  return {
    key,
    atMs: random.between(0, submitMs),
    options: {
      max_tokens: MAX_TOKENS,
      on_budget: key === 'tight' && random.chance(0.5) ? 'fail' : 'fallback',
      ...(random.chance(ASKED_PART) && { model: MODELS.anthropic }),
      ...(random.chance(0.1) && { cache: 'off' }),
      ...(random.chance(0.15) && { stream: true }),
      ...(random.chance(0.2) && { priority: random.pick(['interactive', 'low']) }),
      ...(random.chance(0.1) && { fallback: 'none' }),
    },
    deadlineSeconds: random.chance(0.04) ? random.int(1, 3) : null,
    cancelAfterMs: random.chance(0.04) ? random.between(0, 1500) : null,
    watched: random.chance(0.3),
  }
}

function planFaults(random: Random, count: number, untilMs: number): FaultPlan[] {
  // A short run has one fault of each kind, too.
  const kinds = random.shuffled(FAULT_KINDS).slice(0, count) as FaultKind[]
  while (kinds.length < count) kinds.push(random.weighted(FAULT_WEIGHTS))
  return kinds
    .map(kind => ({
      kind,
      atMs: random.between(FIRST_FAULT_MS, untilMs),
      forMs: kind === 'stop' ? random.between(1000, 15_000) : random.between(200, 3000),
      draw: random.next(),
    }))
    .toSorted((a, b) => a.atMs - b.atMs)
}

/**
 * Limits that delay tasks and still let the run end in time. Every run must reach the call limit of anthropic, because a run
 * below its limits cannot tell a working gate from one that admits everything. The token limit of openai leaves room for
 * bookings: they count `max_tokens`, seven times what an answer uses, and with 45 tokens a call, which is what it uses, a
 * backlog booked all minutes until the deadlines of most tasks. A burst within the limit passes at once, hence at least one
 * whole minute.
 */
function planLimits(tasks: number, seconds: number): Record<ProviderName, Limits> {
  const minutes = Math.max(1, (SUBMIT_PART * seconds) / 60)
  const perMinute = tasks / minutes
  const concurrency = Math.max(4, Math.ceil((tasks / (SUBMIT_PART * seconds)) * 0.4))
  const reached = Math.max(6, Math.ceil(perMinute * REACHED_PART))
  return {
    anthropic: { rpm: reached, tpm: reached * (BOOKED.inputTokens + BOOKED.outputTokens), concurrency },
    // It answers most tasks.
    openai: { rpm: Math.ceil(perMinute), tpm: Math.ceil(perMinute * 150), concurrency: 2 * concurrency },
  }
}

/** Enough for about half of the tasks of the key, and for a few reservations at a time. */
function tightLimit(tasks: number): string {
  const prices = createPrices()
  const { anthropic } = MODELS
  const real = Number(prices.costOf('anthropic', anthropic, REAL))
  const most = Number(prices.worstCaseOf('anthropic', anthropic, BOOKED))
  return Math.max(4 * most, 0.5 * tasks * real).toFixed(9)
}

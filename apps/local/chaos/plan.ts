import { createPrices } from '#shared/models/prices.ts'
import { createRandom, type Random } from './random.ts'

/** What a run will do, all of it drawn from the seed before it begins. */

export type ChaosOptions = {
  seed: number
  faults: number
  tasks: number
  /** By when every task must have ended. */
  seconds: number
}

export const PROVIDERS = ['anthropic', 'openai'] as const
export type ProviderName = (typeof PROVIDERS)[number]
export const MODELS: Record<ProviderName, string> = { anthropic: 'claude-haiku-5-5', openai: 'gpt-5.4-mini' }

export const KEYS = ['one', 'two', 'three', 'tight'] as const
export type KeyName = (typeof KEYS)[number]

export type TaskPlan = {
  index: number
  /** In the prompt, by which the upstream knows the task; identical tasks have it in common. */
  marker: string
  key: KeyName
  /** Milliseconds from the beginning. */
  atMs: number
  options: Record<string, unknown>
  /** null: as long as the run lasts. */
  deadlineSeconds: number | null
  cancelAfterMs: number | null
  /** The client waits for the end and notes what it saw. */
  watched: boolean
}

export const FAULT_KINDS = ['worker', 'api', 'redis', 'postgres', 'flush', 'stop', 'burst'] as const
export type FaultKind = (typeof FAULT_KINDS)[number]
export type FaultPlan = {
  kind: FaultKind
  atMs: number
  /** Until what was killed is started again, or how long it lasts. */
  forMs: number
  /** Picks among what it can hit; in [0, 1). */
  draw: number
}

export type Limits = { rpm: number; tpm: number; concurrency: number }
export type Plan = ReturnType<typeof makePlan>

const FAULT_WEIGHTS: Record<FaultKind, number> = {
  worker: 26,
  api: 12,
  redis: 12,
  postgres: 10,
  flush: 12,
  stop: 14,
  burst: 14,
}
/** Of the seconds of a run, those in which tasks are submitted; faults go on a little longer. */
const SUBMIT_PART = 0.55
/** The first task should find everything up. */
const FIRST_FAULT_MS = 1500
const MAX_TOKENS = 64
/** What a task's tokens come to, roughly: a short prompt and a short answer. */
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
    /** Deadlines of tasks that have no short one. */
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
    // A group of identical tasks comes within a second or so: while the first is under way, and after.
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
  // A short run has one of each all the same.
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
 * Limits that bite and let the run end in time: together a little more than is needed, so that each runs dry now and then.
 * One runs out of tokens first, the other of requests. A minute's limit comes at once, hence the whole minutes.
 */
function planLimits(tasks: number, seconds: number): Record<ProviderName, Limits> {
  const minutes = Math.max(1, (SUBMIT_PART * seconds) / 60)
  const perMinute = tasks / minutes
  const perSecond = tasks / (SUBMIT_PART * seconds)
  const share = (part: number, tokens: number): Limits => ({
    rpm: Math.ceil(perMinute * part),
    tpm: Math.ceil(perMinute * part * tokens),
    concurrency: Math.max(4, Math.ceil(perSecond * part * 0.6)),
  })
  return { anthropic: share(0.6, 45), openai: share(0.6, 150) }
}

/** Enough for about half of its tasks, and for a few reservations at once. */
function tightLimit(tasks: number): string {
  const prices = createPrices()
  const { anthropic } = MODELS
  const real = Number(prices.costOf('anthropic', anthropic, REAL))
  const most = Number(prices.worstCaseOf('anthropic', anthropic, BOOKED))
  return Math.max(4 * most, 0.5 * tasks * real).toFixed(9)
}

import { Type } from 'typebox'
import { MOST_LIMIT } from '#shared/config.ts'
import { type Limits, NO_LIMITS } from '#shared/db/provider-limits.ts'
import { targetOf } from '#shared/gate/target.ts'
import type { LimitName, TargetState } from '#shared/gate/types.ts'
import { score, signalsOf } from '#shared/routing.ts'
import type { FleetState } from './fleet.ts'

/** Providers and their models on the wire. */

const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])
const share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description })

export const LIMIT_NAMES = Object.keys(NO_LIMITS) as LimitName[]
const MEANS: Record<LimitName, string> = {
  rpm: 'Requests a minute.',
  tpm: 'Tokens a minute, input and output.',
  itpm: 'Input tokens a minute.',
  otpm: 'Output tokens a minute.',
  concurrency: 'Calls at a time.',
}
const eachLimit = <T>(make: (name: LimitName) => T) =>
  Object.fromEntries(LIMIT_NAMES.map(name => [name, make(name)])) as Record<LimitName, T>

const limit = (name: LimitName) =>
  nullable(Type.Integer({ minimum: 0, maximum: MOST_LIMIT, description: `${MEANS[name]} null: unlimited.` }))
export const limitsSchema = Type.Object(eachLimit(limit))
export const limitsInput = eachLimit(name => Type.Optional(limit(name)))
export const limitsJson = (limits: Limits): Limits => eachLimit(name => limits[name])

export const breakerSchema = Type.Enum(['closed', 'open', 'half_open'], {
  description: 'open: nothing passes; half_open: one call at a time is let through to see.',
})

const figures = {
  score: share('success rate x 0.4 + speed x 0.3 + health x 0.3; speed is the fastest model’s latency over its own.'),
  latency_ms: nullable(Type.Number({ description: 'Of a typical call; null: none yet.' })),
  success_rate: share('Of the last calls, the latest weighing most.'),
  permits_left: Type.Object(eachLimit(limit), {
    description: 'What may still begin now; what a provider’s own headers say counts as well.',
  }),
}

const STATES = ['ok', 'degraded', 'down', 'unknown'] as const

export const providerSchema = Type.Object({
  name: Type.String(),
  state: Type.Enum(STATES, {
    description: 'unknown: nobody has called it lately, and no worker is configured for it.',
  }),
  default_model: nullable(Type.String()),
  model: nullable(Type.String({ description: 'Whose figures follow: its default model, or another that was called.' })),
  limits: limitsSchema,
  ...figures,
})

export const modelHealthSchema = Type.Object({
  model: Type.String(),
  breaker: breakerSchema,
  retry_ms: Type.Integer({ description: 'Until an open breaker lets a call through; else 0.' }),
  pause_ms: Type.Integer({ description: 'As long as the provider asked to be left alone.' }),
  ...figures,
  health: share('Falls with failures and comes back within minutes.'),
  p95_ms: nullable(Type.Number()),
  limits: limitsSchema,
  waiting: Type.Object({
    for_rate: Type.Integer({ description: 'Tasks with a booked slot.' }),
    for_concurrency: Type.Integer({ description: 'Tasks in line for a running call to end.' }),
  }),
})

/** The latency that others are measured by. */
export const fastest = (targets: TargetState[]): number =>
  Math.min(...targets.flatMap(one => (one.latencyMs !== null && one.latencyMs > 0 ? [one.latencyMs] : [])))

export const scoreOf = (one: TargetState, fastestMs: number): number => score(signalsOf(one), fastestMs)

const figuresOf = (one: TargetState, fastestMs: number) => ({
  score: scoreOf(one, fastestMs),
  latency_ms: one.latencyMs,
  success_rate: one.successRate,
  permits_left: eachLimit(name => {
    const { used, limit: most } = one[name]
    return most === null ? null : Math.max(0, most - used)
  }),
})

export function stateOf(name: string, { targets, workers }: FleetState): (typeof STATES)[number] {
  const seen = workers.get(name) ?? []
  const models = targets.filter(one => one.target.provider === name)
  const every = (bad: (one: TargetState) => boolean) => models.length > 0 && models.every(bad)
  if (every(one => one.breaker === 'open')) return 'down'
  if (seen.length > 0 && seen.every(one => one === 'unreachable')) return 'down'
  if (models.some(one => one.breaker !== 'closed' || one.pauseMs > 0)) return 'degraded'
  if (seen.some(one => one !== 'ok')) return 'degraded'
  return seen.length > 0 || models.length > 0 ? 'ok' : 'unknown'
}

/** @param limits of its default model */
export function providerJson(name: string, defaultModel: string | null, limits: Limits, fleet: FleetState) {
  const models = fleet.targets.filter(one => one.target.provider === name)
  const byDefault = defaultModel && targetOf({ provider: name, model: defaultModel }).model
  const shown = models.find(one => one.target.model === byDefault) ?? models[0]
  return {
    name,
    state: stateOf(name, fleet),
    default_model: defaultModel,
    model: shown?.target.model ?? null,
    limits: limitsJson(limits),
    ...(shown
      ? figuresOf(shown, fastest(fleet.targets))
      : { score: 1, latency_ms: null, success_rate: 1, permits_left: limitsJson(limits) }),
  } as const
}

/** @param limits what is set for the model */
export const modelHealthJson = (one: TargetState, limits: Limits, fastestMs: number) => ({
  model: one.target.model,
  breaker: one.breaker,
  retry_ms: one.retryMs,
  pause_ms: one.pauseMs,
  ...figuresOf(one, fastestMs),
  health: one.health,
  p95_ms: one.p95Ms,
  limits: limitsJson(limits),
  waiting: { for_rate: one.bookings, for_concurrency: one.waiters },
})

import { Type } from 'typebox'
import { MAX_LIMIT } from '#shared/config.ts'
import { type Limits, NO_LIMITS } from '#shared/db/provider-limits.ts'
import { canonicalTarget } from '#shared/gate/target.ts'
import type { LimitName, TargetState } from '#shared/gate/types.ts'
import { score, signalsOf } from '#shared/routing.ts'
import { nullable } from '../http/schemas.ts'
import type { ProviderStatus } from './provider-status.ts'

/** Providers and their models in JSON. */

const share = (description: string) => Type.Number({ minimum: 0, maximum: 1, description })

export const LIMIT_NAMES = Object.keys(NO_LIMITS) as LimitName[]
const DESCRIPTIONS: Record<LimitName, string> = {
  rpm: 'Requests per minute.',
  tpm: 'Input and output tokens per minute.',
  itpm: 'Input tokens per minute.',
  otpm: 'Output tokens per minute.',
  concurrency: 'Concurrent calls.',
}
const eachLimit = <T>(make: (name: LimitName) => T) =>
  Object.fromEntries(LIMIT_NAMES.map(name => [name, make(name)])) as Record<LimitName, T>

const limit = (name: LimitName) =>
  nullable(Type.Integer({ minimum: 0, maximum: MAX_LIMIT, description: `${DESCRIPTIONS[name]} null: unlimited.` }))
export const limitsSchema = Type.Object(eachLimit(limit))
export const limitsInput = eachLimit(name => Type.Optional(limit(name)))
export const limitsJson = (limits: Limits): Limits => eachLimit(name => limits[name])

export const breakerSchema = Type.Enum(['closed', 'open', 'half_open'], {
  description: '`open`: no call passes. `half_open`: one call at a time passes as a probe.',
})

const figures = {
  score: share(
    'Success rate × 0.4 + speed × 0.3 + health × 0.3. Speed: the lowest latency of all models divided by its own.',
  ),
  latency_ms: nullable(Type.Number({ description: 'The latency of a typical call. null: no call yet.' })),
  success_rate: share('The success rate of recent calls. The latest weigh most.'),
  permits_left: Type.Object(eachLimit(limit), {
    description: 'How much may start now. Includes the limits in the provider’s response headers.',
  }),
}

const STATES = ['ok', 'degraded', 'down', 'unknown'] as const

export const providerSchema = Type.Object({
  name: Type.String(),
  state: Type.Enum(STATES, {
    description: '`unknown`: no recent calls, and no worker is configured for it.',
  }),
  default_model: nullable(Type.String()),
  model: nullable(
    Type.String({
      description: 'The model of the following figures: the default model, or another one that was called.',
    }),
  ),
  limits: limitsSchema,
  ...figures,
})

export const modelHealthSchema = Type.Object({
  model: Type.String(),
  breaker: breakerSchema,
  retry_ms: Type.Integer({ description: 'Milliseconds until an open breaker lets a call pass; otherwise 0.' }),
  pause_ms: Type.Integer({ description: 'Milliseconds that the provider’s Retry-After lasts; otherwise 0.' }),
  ...figures,
  health: share('Falls with failures and recovers within minutes.'),
  p95_ms: nullable(Type.Number()),
  limits: limitsSchema,
  waiting: Type.Object({
    for_rate: Type.Integer({ description: 'Tasks with a booked slot of the rate limit.' }),
    for_concurrency: Type.Integer({ description: 'Tasks that are queued for a concurrency slot.' }),
  }),
})

/** The reference for the speed of all models. */
export const lowestLatency = (targets: TargetState[]): number =>
  Math.min(...targets.flatMap(one => (one.latencyMs !== null && one.latencyMs > 0 ? [one.latencyMs] : [])))

export const scoreOf = (one: TargetState, fastestMs: number): number => score(signalsOf(one), fastestMs)

const figuresOf = (one: TargetState, fastestMs: number) => ({
  score: scoreOf(one, fastestMs),
  latency_ms: one.latencyMs,
  success_rate: one.successRate,
  permits_left: eachLimit(name => {
    const { used, limit: max } = one[name]
    return max === null ? null : Math.max(0, max - used)
  }),
})

export function stateOf(name: string, { targets, workers }: ProviderStatus): (typeof STATES)[number] {
  const reports = workers.get(name) ?? []
  const models = targets.filter(one => one.target.provider === name)
  if (models.length > 0 && models.every(one => one.breaker === 'open')) return 'down'
  if (reports.length > 0 && reports.every(one => one === 'unreachable')) return 'down'
  if (models.some(one => one.breaker !== 'closed' || one.pauseMs > 0)) return 'degraded'
  if (reports.some(one => one !== 'ok')) return 'degraded'
  return reports.length > 0 || models.length > 0 ? 'ok' : 'unknown'
}

/** @param limits the limits of its default model */
export function providerJson(name: string, defaultModel: string | null, limits: Limits, status: ProviderStatus) {
  const models = status.targets.filter(one => one.target.provider === name)
  const byDefault = defaultModel && canonicalTarget({ provider: name, model: defaultModel }).model
  const shown = models.find(one => one.target.model === byDefault) ?? models[0]
  return {
    name,
    state: stateOf(name, status),
    default_model: defaultModel,
    model: shown?.target.model ?? null,
    limits: limitsJson(limits),
    ...(shown
      ? figuresOf(shown, lowestLatency(status.targets))
      : { score: 1, latency_ms: null, success_rate: 1, permits_left: limitsJson(limits) }),
  } as const
}

/** @param limits the limits that are set for the model */
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

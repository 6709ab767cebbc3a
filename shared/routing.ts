import { targetOf } from './gate/target.ts'
import type { TargetState } from './gate/types.ts'
import { autoTier } from './models/auto.ts'
import { MODEL_FAMILIES, type Operation, operationOf } from './models/models.ts'
import { PROVIDERS, type ProviderDescriptor } from './models/providers.ts'

export type Candidate = { provider: string; model: string }

/** A provider that can be asked now, with the model it is asked for when nobody names one. */
export type Available = {
  name: string
  defaultModel: string | null
  /** The same for vectors; absent: it makes none. */
  embeds?: { model: string | null }
}

/** `model` may be `auto`, also as `<provider>/auto`. */
export type RouteRequest = { provider?: string | undefined; model?: string | undefined }

/** What is known of a candidate. What is not known counts as the best, so that a newcomer gets its tries. */
export type Signals = {
  /** Part of the recent calls that were answered, 0 to 1. */
  successRate?: number | undefined
  /** Of a typical call, in any unit that is the same for all candidates. */
  latency?: number | undefined
  /** 1: well; 0: down, or its breaker is open. */
  health?: number | undefined
}

export type RouteOptions = {
  /** By `candidateKey` of the `targetOf` a candidate. */
  scores?: ReadonlyMap<string, Signals>
  /** What the task asks, for `auto`. */
  prompt?: string
  /** `chat` unless it is said. */
  operation?: Operation
}

export const AUTO = 'auto'

/** Candidates whose scores differ by less keep the operator's order, so that traffic does not flap between equals. */
export const MARGIN = 0.05

export const candidateKey = ({ provider, model }: Candidate): string => `${provider}/${model}`

/**
 * Which (provider, model) to ask, best first. Pure.
 * A model may be named as `<provider>/<model>`; otherwise its family tells the provider, if one of them is available.
 *
 * score = successRate x 0.4 + speed x 0.3 + health x 0.3, where speed = the fastest candidate's latency / its own: the
 * order of the "provider service" among the systems that Sluice must be able to be. See `MARGIN` for equals.
 *
 * Vectors of two models cannot be compared. So for those there is one model, the operator's first, and never another in its
 * stead; scores have no say.
 * @param available in the operator's order of preference
 */
export function route(
  request: RouteRequest,
  available: readonly Available[],
  { scores, prompt = '', operation = 'chat' }: RouteOptions = {},
): Candidate[] {
  const { provider, model } = named(request, available)
  const candidates = available
    .filter(one => provider === undefined || one.name === provider)
    .flatMap(one => {
      const wanted = model === undefined || model === AUTO ? unnamed(one, operation, model, prompt) : model
      return wanted && does(one, wanted, operation) ? [{ provider: one.name, model: wanted }] : []
    })
  if (operation === 'embed') return candidates.filter(one => one.model === candidates[0]!.model)
  return scores ? byScore(candidates, scores) : candidates
}

function named({ provider, model }: RouteRequest, available: readonly Available[]): RouteRequest {
  if (provider || !model) return { provider, model }
  const isAvailable = (name: string | undefined) => available.some(one => one.name === name)
  const [prefix, rest] = model.split(/\/(.*)/s)
  if (rest && isAvailable(prefix)) return { provider: prefix, model: rest }
  const family = MODEL_FAMILIES.find(one => one.pattern.test(model))
  return { provider: isAvailable(family?.provider) ? family?.provider : undefined, model }
}

const unnamed = (one: Available, operation: Operation, model: string | undefined, prompt: string): string | null =>
  operation === 'embed' ? (one.embeds?.model ?? null) : model === AUTO ? automatic(one, prompt) : one.defaultModel

/** Whether a provider's model can be asked for that, as far as its name and the operator say. */
function does({ embeds }: Available, model: string, operation: Operation): boolean {
  const makesVectors = embeds?.model === model || operationOf(model) === 'embed'
  return operation === 'embed' ? embeds !== undefined && makesVectors : !makesVectors
}

/** The providers of the settings, whether they are there or not. */
export const configuredAs = (
  configs: readonly { name: string; model: string | null; embeds?: { model: string | null } }[],
): Available[] => configs.map(({ name, model, embeds }) => ({ name, defaultModel: model, ...(embeds && { embeds }) }))

function automatic({ name, defaultModel }: Available, prompt: string): string | null {
  const descriptor = (PROVIDERS as readonly ProviderDescriptor[]).find(one => one.name === name)
  const model = autoTier(prompt).tier === 'cheap' ? descriptor?.cheapModel : descriptor?.strongModel
  return model ?? defaultModel
}

/** Best first; whoever is within MARGIN of the best of those that are left comes in the order that it came in. */
function byScore(candidates: readonly Candidate[], scores: ReadonlyMap<string, Signals>): Candidate[] {
  const signals = candidates.map(candidate => scores.get(candidateKey(targetOf(candidate))) ?? {})
  const fastest = Math.min(...signals.flatMap(({ latency }) => (isLatency(latency) ? [latency] : [])))
  let rest = candidates.map((candidate, i) => ({ candidate, score: score(signals[i]!, fastest) }))
  const ordered: Candidate[] = []
  while (rest.length > 0) {
    const best = Math.max(...rest.map(one => one.score))
    ordered.push(...rest.filter(one => one.score > best - MARGIN).map(one => one.candidate))
    rest = rest.filter(one => one.score <= best - MARGIN)
  }
  return ordered
}

/** What the gate knows, as routing goes by it. */
export const signalsOf = ({ breaker, successRate, latencyMs, health }: TargetState): Signals => ({
  successRate,
  health: breaker === 'open' ? 0 : health,
  ...(latencyMs !== null && { latency: latencyMs }),
})

/** From 0 to 1. `fastest`: the latency that others are measured by. */
export function score({ successRate, latency, health }: Signals, fastest: number): number {
  const speed = isLatency(latency) ? fastest / latency : 1
  return part(successRate) * 0.4 + speed * 0.3 + part(health) * 0.3
}

const isLatency = (latency: number | undefined): latency is number =>
  latency !== undefined && Number.isFinite(latency) && latency > 0

const part = (value: number | undefined): number =>
  value === undefined || Number.isNaN(value) ? 1 : Math.min(1, Math.max(0, value))

import { canonicalTarget, type Target, targetName } from './gate/target.ts'
import type { TargetState } from './gate/types.ts'
import { autoTier } from './models/auto.ts'
import { declaredCapabilities, type RequestNeeds, unmetNeeds } from './models/capabilities.ts'
import { isCatalogued } from './models/catalogue.ts'
import { catalogueOf, type DeclaredModel } from './models/declared.ts'
import { listedAs } from './models/listed-name.ts'
import { type Operation, operationOf } from './models/models.ts'
import { matchesName } from './models/name-pattern.ts'
import { PROVIDERS, type ProviderDescriptor } from './models/providers.ts'
import { spread } from './models/spread.ts'

/** A provider that can be called now, with the model to use when the client names none. */
export type AvailableProvider = {
  name: string
  defaultModel: string | null
  /** Its default embedding model; absent: it creates no embeddings. */
  embeds?: { model: string | null }
  /**
   * The models that the operator's own server lists; null: it has not answered yet and may have any. Absent: a vendor,
   * whose models are in the catalogue.
   */
  listed?: readonly string[] | null
  /** Names and patterns of `PRICES` beyond the catalogue. */
  priced?: readonly string[]
  /** The only kinds that it serves; absent: all. */
  kinds?: readonly string[]
  /** The wire format that it speaks; absent: that of the catalogue. */
  format?: ProviderDescriptor['adapter']
  /** The models that the operator declares, by name or by a prefix that ends in `*`; absent: those of the catalogue. */
  capabilities?: Readonly<Record<string, DeclaredModel>>
  /** A name that stands for every provider of the pool. */
  pool?: string
  /** Share of the calls among providers with the same model; absent: the operator's order decides. */
  weight?: number
  /** The aliases that stand for one of its models. */
  aliases?: Readonly<Record<string, readonly AliasEntry[]>>
}

/** `rank`: position in the alias. `weight`: share of the calls of the whole alias; absent: the order decides. */
export type AliasEntry = { model: string; rank: number; weight?: number }

/** `model` may be `auto`, also as `<provider>/auto`. */
export type RouteRequest = { provider?: string | undefined; model?: string | undefined }

/** What is known about a target. An unknown value counts as the best, so that a new target gets calls. */
export type Signals = {
  /** Share of the recent calls that were answered, 0 to 1. */
  successRate?: number | undefined
  /** Of a typical call, in the same unit for all targets. */
  latency?: number | undefined
  /** 1: healthy; 0: down, or its circuit breaker is open. */
  health?: number | undefined
}

export type RouteOptions = {
  /** By `targetName` of its `canonicalTarget`. */
  scores?: ReadonlyMap<string, Signals>
  /** The prompt of the task, for `auto`. */
  prompt?: string
  /** Default: `chat`. */
  operation?: Operation
  /** The task's kind, for providers that do not serve every kind. */
  kind?: string
  /** Models that are declared not to meet them are no targets. */
  needs?: RequestNeeds
  /** From 0 to 1, exclusive: spreads calls by weight. Absent: the operator's order. */
  random?: () => number
}

export const AUTO = 'auto'

/** Targets whose scores differ by less keep the operator's order, so that traffic does not flap between equals. */
export const SCORE_MARGIN = 0.05

/**
 * The targets of a task, best first. Pure.
 * A model may be named as `<provider>/<model>`. Any other name selects only providers that are known to have exactly that
 * model, see `owners`: text never reaches a company because of the prefix of a name.
 *
 * score = successRate x 0.4 + speed x 0.3 + health x 0.3, where speed = the fastest target's latency / its own. See
 * `SCORE_MARGIN` for near equals.
 *
 * Vectors of two models cannot be compared: embeddings have one model, the operator's first, and scores do not matter.
 * @param available in the operator's order of preference
 */
export function route(
  request: RouteRequest,
  available: readonly AvailableProvider[],
  { scores, prompt = '', operation = 'chat', kind, needs = [], random }: RouteOptions = {},
): Target[] {
  const { provider, model } = request
  const named = model !== undefined && model !== AUTO
  const aliased = named ? ofAlias(model, available) : []
  const wanted: Wanted[] =
    aliased.length > 0
      ? aliased
      : named && provider === undefined
        ? owners(model, available)
        : available.map(one => ({ one, model }))
  const found = wanted.flatMap(({ one, model, group, weight = one.weight }) => {
    if (provider !== undefined && !isCalled(one, provider)) return []
    if (one.kinds && !one.kinds.includes(kind ?? '')) return []
    const asked = model === undefined || model === AUTO ? defaultModelOf(one, operation, model, prompt) : model
    if (!asked || unmetNeeds(declaredCapabilities(one.capabilities, asked), needs).length > 0) return []
    return supports(one, asked, operation) ? [{ provider: one.name, model: asked, weight, group: group ?? asked }] : []
  })
  const candidates = (random ? spread(found, random) : found).map(({ provider, model }) => ({ provider, model }))
  if (operation === 'embed') return candidates.filter(one => one.model === candidates[0]!.model)
  return scores ? byScore(candidates, scores) : candidates
}

/** A provider with the model to call there. `group`: candidates that share calls by weight; absent: those with the same model. */
type Wanted = { one: AvailableProvider; model: string | undefined; group?: string; weight?: number }

/** Whether a client means this provider by a name: its own, or that of its pool. */
export const isCalled = ({ name, pool }: AvailableProvider, provider: string): boolean =>
  name === provider || pool === provider

function ofAlias(alias: string, available: readonly AvailableProvider[]): Wanted[] {
  return available
    .flatMap(one =>
      one.aliases && Object.hasOwn(one.aliases, alias) ? one.aliases[alias]!.map(entry => ({ one, ...entry })) : [],
    )
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ one, model, rank, weight }) => ({
      one,
      model,
      group: weight === undefined ? `${rank}` : 'alias',
      ...(weight !== undefined && { weight }),
    }))
}

/**
 * The providers that have a model of this name, by the first rule that finds any: a server of the operator lists it; it is
 * `<provider>/<model>`; the catalogue, `PRICES` or a setting assigns it to the provider; a server of the operator has not
 * listed its models yet.
 */
function owners(model: string, available: readonly AvailableProvider[]): { one: AvailableProvider; model: string }[] {
  const listed = available.flatMap(one => {
    const name = one.listed ? listedAs(one.name, model, one.listed) : null
    return name === null ? [] : [{ one, model: name }]
  })
  if (listed.length > 0) return listed
  const [prefix, rest] = model.split(/\/(.*)/s)
  const prefixed = rest ? available.filter(one => isCalled(one, prefix!)) : []
  if (prefixed.length > 0) return havingModel(prefixed, rest!).map(one => ({ one, model: rest! }))
  const known = available.filter(one => isKnown(one, model))
  return (known.length > 0 ? known : available.filter(one => one.listed === null)).map(one => ({ one, model }))
}

/** Of a pool, those that are known to have the model; otherwise all, because the catalogue may not know it yet. */
function havingModel(pool: AvailableProvider[], model: string): AvailableProvider[] {
  const known = pool.filter(one => isKnown(one, model))
  return known.length > 0 ? known : pool
}

function isKnown(
  { name, defaultModel, embeds, listed, priced, capabilities }: AvailableProvider,
  model: string,
): boolean {
  if (defaultModel === model || embeds?.model === model) return true
  if (priced?.some(pattern => matchesName(pattern, model))) return true
  // A bare * describes every model and names none.
  const declared = Object.keys(capabilities ?? {}).filter(one => one !== '*')
  if (declared.length > 0) return declared.some(pattern => matchesName(pattern, model))
  return listed === undefined && isCatalogued(name, model)
}

const defaultModelOf = (
  one: AvailableProvider,
  operation: Operation,
  model: string | undefined,
  prompt: string,
): string | null =>
  operation === 'embed' ? (one.embeds?.model ?? null) : model === AUTO ? autoModel(one, prompt) : one.defaultModel

/** Whether a model serves the operation, by its name and the operator's settings. */
function supports({ embeds, capabilities }: AvailableProvider, model: string, operation: Operation): boolean {
  const makesVectors =
    embeds?.model === model ||
    declaredCapabilities(capabilities, model).embeds === true ||
    operationOf(model) === 'embed'
  return operation === 'embed' ? embeds !== undefined && makesVectors : !makesVectors
}

function autoModel(one: AvailableProvider, prompt: string): string | null {
  // An operator's server may not have the vendor's models.
  if (one.listed !== undefined) return one.defaultModel
  const descriptor = (PROVIDERS as readonly ProviderDescriptor[]).find(row => row.name === catalogueOf(one.name))
  const model = autoTier(prompt).tier === 'cheap' ? descriptor?.cheapModel : descriptor?.strongModel
  return model && isKnown(one, model) ? model : one.defaultModel
}

/** Best first. Repeatedly takes the targets within SCORE_MARGIN of the best remaining one, in their given order. */
function byScore(candidates: readonly Target[], scores: ReadonlyMap<string, Signals>): Target[] {
  const signals = candidates.map(candidate => scores.get(targetName(canonicalTarget(candidate))) ?? {})
  const fastest = Math.min(...signals.flatMap(({ latency }) => (isLatency(latency) ? [latency] : [])))
  let rest = candidates.map((candidate, i) => ({ candidate, score: score(signals[i]!, fastest) }))
  const ordered: Target[] = []
  while (rest.length > 0) {
    const best = Math.max(...rest.map(one => one.score))
    ordered.push(...rest.filter(one => one.score > best - SCORE_MARGIN).map(one => one.candidate))
    rest = rest.filter(one => one.score <= best - SCORE_MARGIN)
  }
  return ordered
}

/** The gate's state of a target, as signals for routing. */
export const signalsOf = ({ breaker, successRate, latencyMs, health }: TargetState): Signals => ({
  successRate,
  health: breaker === 'open' ? 0 : health,
  ...(latencyMs !== null && { latency: latencyMs }),
})

/** From 0 to 1. @param fastest the latency of the fastest target */
export function score({ successRate, latency, health }: Signals, fastest: number): number {
  const speed = isLatency(latency) ? fastest / latency : 1
  return clampToUnit(successRate) * 0.4 + speed * 0.3 + clampToUnit(health) * 0.3
}

const isLatency = (latency: number | undefined): latency is number =>
  latency !== undefined && Number.isFinite(latency) && latency > 0

const clampToUnit = (value: number | undefined): number =>
  value === undefined || Number.isNaN(value) ? 1 : Math.min(1, Math.max(0, value))

import type { Target } from '#shared/gate/target.ts'
import { targetName } from '#shared/gate/target.ts'
import type { ModelRequest } from '#shared/jobs/define.ts'
import {
  type Capability,
  declaredCapabilities,
  type ModelCapabilities,
  type RequestNeeds,
  unmetNeeds,
} from '#shared/models/capabilities.ts'
import { cataloguedNames } from '#shared/models/catalogue.ts'
import { cataloguedCapabilities } from '#shared/models/model-capabilities.ts'
import { operationOf } from '#shared/models/models.ts'
import { PROVIDERS, type ProviderDescriptor } from '#shared/models/providers.ts'
import { type Destination, isForwarded, type Loss, lossesOf } from '#shared/providers/losses.ts'
import { parameterOf } from '#shared/requests/parameters.ts'
import { imagesOf } from '#shared/requests/parts.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import type { AvailableProvider } from '#shared/routing.ts'

/** Losses that the client permits: all, or those with these names. */
export type AllowedLosses = true | readonly string[] | undefined

export type Suitable = { targets: Target[] }

/** Why no target can honour a request: the parameter as in `Loss`, and the text for the client. */
export type Unsuitable = { refusal: { name: string; param: string; message: string } }

/** Losses that a request without a client's format may have: options that Sluice documents as hints. */
const HINTS = /^(temperature|top_p|top_k|presence_penalty|frequency_penalty|seed|effort|verbosity|thinking)/

/** How many models an error names. */
const MAX_NAMED = 5

/** The targets that can honour a request: without loss if there are any, otherwise with permitted losses. */
export function suitableTargets(
  request: ChatRequest,
  targets: Target[],
  available: readonly AvailableProvider[],
  allowed: AllowedLosses,
): Suitable | Unsuitable {
  const needs = needsOf(request)
  const judged = targets.map(target => ({
    target,
    ...problems(request, needs, destinationOf(target, available), available, allowed),
  }))
  const whole = judged.filter(one => !one.refused && one.permitted.length === 0)
  if (whole.length > 0 || judged.length === 0) return { targets: whole.map(one => one.target) }
  const lossy = judged.filter(one => !one.refused)
  if (lossy.length > 0) return { targets: lossy.map(one => one.target) }
  return { refusal: explain(judged[0]!, needs, request, available) }
}

type Judged = { target: Target; refused: Loss | null; lacks: Capability[]; permitted: Loss[] }

function problems(
  request: ChatRequest,
  needs: RequestNeeds,
  to: Destination,
  available: readonly AvailableProvider[],
  allowed: AllowedLosses,
): Omit<Judged, 'target'> {
  const isOwn = isForwarded(to, request)
  const unmet = needs.length > 0 ? unmetNeeds(capabilitiesOf(to, available), needs) : []
  // A provider that gets the client's own request decides about the rest.
  const lacks = unmet.filter(one => one === 'tools' || one === 'images')
  const soft = isOwn ? [] : unmet.filter(one => one === 'thinking' || one === 'schema')
  const losses = [...lossesOf(to, request), ...soft.map(one => parameterOf(FIELDS[one], request.original))]
  const isAllowed = ({ name, param }: Loss) =>
    request.original === undefined ? HINTS.test(name) : isPermitted(allowed, name, param)
  const refused =
    lacks.length > 0 ? parameterOf(FIELDS[lacks[0]!], request.original) : losses.find(one => !isAllowed(one))
  return { refused: refused ?? null, lacks, permitted: losses.filter(isAllowed) }
}

const isPermitted = (allowed: AllowedLosses, name: string, param: string): boolean =>
  allowed === true || (allowed?.includes(name) ?? false) || (allowed?.includes(param) ?? false)

const FIELDS: Record<Capability, string> = { tools: 'tools', images: 'image', schema: 'schema', thinking: 'effort' }

/** What the model must be able to do. An answer that the kind checks needs no schema support. */
export function needsOf(request: ChatRequest): RequestNeeds {
  const { tools, toolChoice, schema, effort, thinking, original, messages } = request
  const needs: Capability[] = []
  if (tools?.length && toolChoice !== 'none') needs.push('tools')
  if (messages.some(one => typeof one.content !== 'string') && imagesOf(request).length > 0) needs.push('images')
  if (schema && original) needs.push('schema')
  if ((effort !== undefined && effort !== 'none') || thinking?.enabled) needs.push('thinking')
  return needs
}

/** The names of the parameters that a request loses on its way to a target, with the client's permission. */
export const lostAt = (request: ChatRequest, target: Target, available: readonly AvailableProvider[]): string[] => {
  const { permitted } = problems(request, needsOf(request), destinationOf(target, available), available, true)
  return [...new Set(permitted.map(one => one.name))]
}

/** The error of a task without a target that can honour it. */
export const unsupported = ({ param, message }: Unsuitable['refusal']) => ({
  code: 'unsupported_parameter' as const,
  message,
  context: { param },
})

/** The request as a model can honour it, after the client has permitted the loss: one that does not reason gets no such field. */
export function adaptTo<R extends ModelRequest>(
  target: Target,
  request: R,
  available: readonly AvailableProvider[],
): R {
  if ('texts' in request || (request.effort === undefined && !request.thinking)) return request
  const to = destinationOf(target, available)
  if (isForwarded(to, request) || capabilitiesOf(to, available).thinking !== false) return request
  const { effort: _, thinking: __, ...rest } = request
  return rest as R
}

const capabilitiesOf = ({ provider, model }: Target, available: readonly AvailableProvider[]): ModelCapabilities => ({
  ...cataloguedCapabilities(provider, model),
  ...declaredCapabilities(available.find(one => one.name === provider)?.capabilities, model),
})

/**
 * The providers with what their servers say about the targets' models. What the operator declares comes first.
 * @param report null: the server does not say
 */
export async function withReports(
  available: readonly AvailableProvider[],
  targets: readonly Target[],
  report: (target: Target) => Promise<ModelCapabilities> | null,
): Promise<AvailableProvider[]> {
  const reports = await Promise.all(targets.map(async target => ({ target, said: await report(target) })))
  return available.map(one => {
    const own = reports.flatMap(({ target: { provider, model }, said }) =>
      provider === one.name && said
        ? [[model, { ...said, ...declaredCapabilities(one.capabilities, model) }] as const]
        : [],
    )
    return own.length === 0 ? one : { ...one, capabilities: { ...one.capabilities, ...Object.fromEntries(own) } }
  })
}

/** Whether the provider fetches images by itself. */
export const takesImageUrls = (target: Target, available: readonly AvailableProvider[]): boolean =>
  destinationOf(target, available).format !== 'ollama'

function destinationOf({ provider, model }: Target, available: readonly AvailableProvider[]): Destination {
  const format =
    available.find(one => one.name === provider)?.format ??
    (PROVIDERS as readonly ProviderDescriptor[]).find(one => one.name === provider)?.adapter ??
    'openai'
  return { provider, model, format }
}

const CANNOT: Record<Capability, string> = {
  tools: 'calls no tools',
  images: 'reads no images',
  schema: 'cannot be held to a schema',
  thinking: 'does not reason',
}

function explain(
  { target, refused, lacks }: Judged,
  needs: RequestNeeds,
  request: ChatRequest,
  available: readonly AvailableProvider[],
): Unsuitable['refusal'] {
  const { name, param } = refused!
  const others = supporting(request, needs, available)
  const models = others.length > 0 ? `Models that support it: ${others.join(', ')}.` : 'No available model supports it.'
  const by = targetName(target)
  if (lacks.length > 0)
    return { name, param, message: `'${param}' is not supported: ${by} ${CANNOT[lacks[0]!]}. ${models}` }
  const hint = request.original ? ` The header "X-Sluice-Allow-Lossy: ${name}" leaves it out.` : ''
  return { name, param, message: `'${param}' is not supported by ${by}. ${models}${hint}` }
}

/** Models of the available providers that can honour a request, their default models first. */
function supporting(request: ChatRequest, needs: RequestNeeds, available: readonly AvailableProvider[]): string[] {
  const targets = [
    ...available.map(one => ({ provider: one.name, model: one.defaultModel })),
    ...available.flatMap(one =>
      (one.listed === undefined ? cataloguedNames(one.name) : (one.listed ?? [])).map(model => ({
        provider: one.name,
        model,
      })),
    ),
  ].filter((one): one is Target => one.model !== null && operationOf(one.model) === 'chat')
  const names = new Set<string>()
  for (const target of targets) {
    const { refused, permitted } = problems(request, needs, destinationOf(target, available), available, undefined)
    if (!refused && permitted.length === 0) names.add(targetName(target))
    if (names.size === MAX_NAMED) break
  }
  return [...names]
}

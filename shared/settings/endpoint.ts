import { Value } from 'typebox/value'
import type { LimitName } from '#shared/gate/types.ts'
import type { DeclaredModel } from '#shared/models/declared.ts'
import { type ApiFormat, FORMAT_DEFAULTS, type Preset, presetOf, WIRES } from '#shared/models/presets.ts'
import { type PriceOverride, pricesOf } from '#shared/models/price-overrides.ts'
import { DEMO, PROVIDERS, type ProviderDescriptor } from '#shared/models/providers.ts'
import { providerUrl } from './base-url.ts'
import { type EndpointDefinition, endpointDefinition } from './endpoint-schema.ts'
import { escapePointer, firstFault } from './first-fault.ts'
import type { ProviderConfig } from './providers.ts'

/** A definition that matches the schema and still cannot be used. `path`: JSON pointer within the definition. */
export class DefinitionError extends Error {
  readonly path: string
  constructor(path: string, message: string) {
    super(message)
    this.path = path
  }
}

/** An endpoint, with the prices that its definition gives. */
export type Endpoint = { config: ProviderConfig; prices: PriceOverride[] }

/** The value of an environment variable, cleaned; undefined: unset. */
export type ReadKey = (variable: string) => string | undefined

const OPENAI_FORMATS: readonly ApiFormat[] = ['openai', 'azure-openai', 'ollama']
const DESCRIPTORS: readonly ProviderDescriptor[] = PROVIDERS
const CLOUDS: readonly ApiFormat[] = ['bedrock', 'vertex']

/** @throws DefinitionError if the value does not match `endpointDefinition` */
export function checkDefinition(value: unknown): EndpointDefinition {
  if (Value.Check(endpointDefinition, value)) return value
  const { pointer, message } = firstFault(endpointDefinition, value)
  throw new DefinitionError(pointer, message)
}

/**
 * Reads a definition that matches `endpointDefinition`.
 * @throws DefinitionError that names the field
 */
export function readEndpoint(name: string, definition: EndpointDefinition, readKey: ReadKey): Endpoint {
  if (name === DEMO || name === 'auto') throw new DefinitionError('', `"${name}" is a reserved name`)
  const preset = definition.preset === undefined ? undefined : presetOf(definition.preset)
  const format = definition.format ?? preset?.format
  if (!format) throw new DefinitionError('/format', 'is required without a preset')
  // A preset describes one server: none of its other values hold for another format.
  const base: Omit<Preset, 'format'> = preset?.format === format ? preset : FORMAT_DEFAULTS[format]
  const catalogue = definition.catalogue ?? base.catalogue
  const apiKey = keyOf(definition, base, readKey)
  const models = definition.models && mapValues(definition.models, toModel)
  const isOwn = apiKey === null && !CLOUDS.includes(format)
  const names = Object.keys(models ?? {}).filter(one => !one.endsWith('*'))
  const makesVectors = (one: string) => models?.[one]?.embeds === true
  const embeds = OPENAI_FORMATS.includes(format) && !base.noEmbeddings
  // Deployments and inference profiles have names of the operator.
  const usual = WIRES[format] === format ? DESCRIPTORS.find(one => one.name === catalogue) : undefined
  const config: ProviderConfig = {
    name,
    adapter: format,
    baseUrl: urlOf(format, definition, base),
    apiKey,
    model:
      definition.model ??
      names.find(one => !makesVectors(one)) ??
      (models || isOwn ? null : usual?.defaultModel) ??
      null,
    ...(embeds && {
      embeds: {
        model:
          definition.embed_model ??
          names.find(makesVectors) ??
          (models || isOwn ? null : usual?.embeds?.defaultModel) ??
          null,
      },
    }),
    explicit: true,
    ...(isOwn && !models && { lists: true as const }),
    ...(catalogue !== undefined && { catalogue }),
    ...(models && { models }),
    ...(definition.pool !== undefined && { pool: definition.pool }),
    weight: definition.weight ?? 1,
    ...(definition.limits && { limits: toLimits(definition.limits) }),
    modelLimits: modelLimitsOf(definition),
    ...(definition.region !== undefined && { region: definition.region }),
    ...(definition.project !== undefined && { project: definition.project }),
    ...(definition.api_version !== undefined && { apiVersion: definition.api_version }),
  }
  return { config, prices: pricesOfEndpoint(name, definition, isOwn) }
}

function keyOf({ key_env }: EndpointDefinition, base: Omit<Preset, 'format'>, readKey: ReadKey): string | null {
  const variable = key_env ?? base.keyEnv
  if (variable === undefined) return null
  const key = readVariable(variable, readKey)
  if (key === undefined)
    throw new DefinitionError('/key_env', `names the environment variable ${variable}, which is not set`)
  return key
}

/** The key is not part of the message. */
function readVariable(variable: string, readKey: ReadKey): string | undefined {
  try {
    return readKey(variable)
  } catch (error) {
    throw new DefinitionError('/key_env', (error as Error).message)
  }
}

function urlOf(format: ApiFormat, definition: EndpointDefinition, base: Omit<Preset, 'format'>): string {
  const { base_url: address, region, project } = definition
  if (format === 'vertex' && project === undefined) throw new DefinitionError('/project', 'is required for Vertex')
  if (CLOUDS.includes(format) && region === undefined)
    throw new DefinitionError('/region', 'is required for Bedrock and Vertex')
  if (address === undefined && base.baseUrl === undefined && !CLOUDS.includes(format))
    throw new DefinitionError('/base_url', 'is required')
  if (address === undefined) return base.baseUrl ?? ''
  const adapter = WIRES[format] === format ? WIRES[format] : 'none'
  const vendor = base.baseUrl ?? PROVIDERS.find(one => one.adapter === adapter)?.baseUrl ?? 'https://host.example'
  try {
    const url = providerUrl({ env: { url: 'base_url', key: 'key_env' }, adapter, baseUrl: vendor }, address)
    // The SDK adds the rest of the path.
    return format === 'azure-openai' ? url.replace(/\/openai(?:\/.*)?$/, '') : url
  } catch (error) {
    throw new DefinitionError('/base_url', (error as Error).message.replace(/^base_url: /, ''))
  }
}

function toModel({
  upstream,
  embeds,
  tools,
  images,
  schema,
  thinking,
  context,
  output,
}: ModelDefinition): DeclaredModel {
  return {
    ...(upstream !== undefined && { upstream }),
    ...(embeds && { embeds: true as const }),
    ...(tools !== undefined && { tools }),
    ...(images !== undefined && { images }),
    ...(schema !== undefined && { schema }),
    ...(thinking !== undefined && { thinking }),
    ...(context !== undefined && { context }),
    ...(output !== undefined && { output }),
  }
}
type ModelDefinition = NonNullable<EndpointDefinition['models']>[string]

const toLimits = (given: NonNullable<EndpointDefinition['limits']>): Record<LimitName, number | null> => ({
  rpm: given.rpm ?? null,
  tpm: given.tpm ?? null,
  itpm: given.itpm ?? null,
  otpm: given.otpm ?? null,
  concurrency: given.concurrency ?? null,
})

function modelLimitsOf({ models }: EndpointDefinition): NonNullable<ProviderConfig['modelLimits']> {
  const limited = Object.entries(models ?? {}).flatMap(([model, { limits }]) =>
    limits ? [[model, toLimits(limits)] as const] : [],
  )
  for (const [model] of limited)
    if (model.endsWith('*'))
      throw new DefinitionError(`/models/${escapePointer(model)}/limits`, 'need the name of one model')
  return Object.fromEntries(limited)
}

/** A server without a key cannot send a bill, so that its models are free unless they have another price. */
function pricesOfEndpoint(name: string, { models }: EndpointDefinition, isOwn: boolean): PriceOverride[] {
  const given = Object.entries(models ?? {}).flatMap(([model, { price }]): PriceOverride[] => {
    if (price === undefined) return []
    try {
      return [{ provider: name, model, prices: pricesOf(model, price) }]
    } catch (error) {
      throw new DefinitionError(`/models/${escapePointer(model)}/price`, (error as Error).message)
    }
  })
  const free = { provider: name, model: '*', prices: [{ input: '0', output: '0' }], last: true as const }
  return isOwn ? [...given, free] : given
}

const mapValues = <A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]))

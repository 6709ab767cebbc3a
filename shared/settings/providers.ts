import { type TSchema, Type } from 'typebox'
import type { LimitName } from '#shared/gate/types.ts'
import type { DeclaredModel } from '#shared/models/declared.ts'
import type { ApiFormat } from '#shared/models/presets.ts'
import type { PriceOverride } from '#shared/models/price-overrides.ts'
import { PROVIDER_NAMES, PROVIDERS, type ProviderDescriptor } from '#shared/models/providers.ts'
import { providerUrl } from './base-url.ts'
import { ConfigError } from './config-error.ts'

/** A provider that the operator configured. */
export type ProviderConfig = {
  name: string
  adapter: ApiFormat
  baseUrl: string
  /** null: requests have no key. */
  apiKey: string | null
  /** The key is sent as `Authorization: Bearer` instead of the provider's own header. */
  bearer?: true
  /** null: the first model that the server lists. */
  model: string | null
  /** The embedding model; absent: the provider has none. */
  embeds?: { model: string | null }
  /** false: the operator did not configure it; it is used only if a server answers at `baseUrl`. */
  explicit: boolean
  /** A server of the operator: its models are listed by the server, and are free unless they have a price. */
  lists?: true
  /** Maximum context in tokens, for servers that allocate it per request. */
  maxContext?: number
  /** Limits for each model; absent: none. */
  limits?: Record<LimitName, number | null>
  /** Limits of single models, which replace `limits`. */
  modelLimits?: Readonly<Record<string, Record<LimitName, number | null>>>
  /** The provider of the built-in catalogue that has its models; absent: the one of its name. */
  catalogue?: string
  /** Its models by name, or by a prefix that ends in `*`; absent: those of the catalogue, or those that it lists. */
  models?: Readonly<Record<string, DeclaredModel>>
  /** A name that stands for all endpoints of the pool. */
  pool?: string
  /** Share of the calls among endpoints with the same model; absent: the operator's order decides. */
  weight?: number
  region?: string
  project?: string
  apiVersion?: string
}

/** Descriptions of `<PROVIDER>_RPM` and the other limits, which apply to each model of the provider. */
const LIMITS: Record<LimitName, string> = {
  rpm: 'requests per minute',
  tpm: 'tokens per minute',
  itpm: 'input tokens per minute',
  otpm: 'output tokens per minute',
  concurrency: 'concurrent calls',
}
const limitNames = Object.keys(LIMITS) as LimitName[]

/** The prefix of a provider's settings. */
const envPrefix = ({ env }: ProviderDescriptor) => env.model.replace(/_MODEL$/, '')
const limitSetting = (descriptor: ProviderDescriptor, limit: LimitName) =>
  `${envPrefix(descriptor)}_${limit.toUpperCase()}`

/** The highest limit that the gate can count. */
export const MAX_LIMIT = 1_000_000_000_000

const ALL: readonly ProviderDescriptor[] = PROVIDERS
const text = (description: string) => Type.Optional(Type.String({ minLength: 1, description }))

export const providerSettings: Record<string, TSchema> = {}
for (const descriptor of ALL) {
  const { name, env, baseUrl, defaultModel, embeds } = descriptor
  if (env.key) {
    providerSettings[env.key] = text(`API key for ${name}. Setting it configures the provider.`)
    for (const { name: alias, bearer } of env.aliases ?? [])
      providerSettings[alias] = text(
        `Alternative to \`${env.key}\`, used if ${env.aliases!.length > 1 ? 'the settings before it are' : 'that is'} not set${bearer ? '. It is sent as `Authorization: Bearer`' : ''}.`,
      )
    providerSettings[env.url] = text(
      `Base URL for ${name} (default \`${baseUrl}\`), with or without the version at its end. A URL other than that of ${name} itself configures the provider even without a key. Such a server costs nothing per token unless \`PRICES\` or the built-in list has a price for the model.`,
    )
  } else {
    providerSettings[env.url] = text(
      `Address of ${name}, in the form that its own tools accept. Unset: Sluice uses a server that answers at \`${baseUrl}\`.`,
    )
  }
  const usual = (model: string | null) => (model ? `default \`${model}\`` : 'default: the first model that it lists')
  providerSettings[env.model] = text(`Default model for ${name} (${usual(defaultModel)}).`)
  if (embeds)
    providerSettings[embeds.env] = text(
      `Embedding model for ${name} (${usual(embeds.defaultModel)}). A model named here counts as an embedding model, whatever its name.`,
    )
  for (const limit of limitNames) {
    providerSettings[limitSetting(descriptor, limit)] = Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MAX_LIMIT,
        description: `Limits for each model of ${name}: ${Object.values(LIMITS).join(', ')}. Unset: no limit. 0: no calls. \`PUT /api/v1/providers/${name}/limits\` changes them at run time.`,
        // All limits share one row of the generated table.
        row: limitSetting(descriptor, limitNames[0]!),
      }),
    )
  }
}

/** Whether a setting is a key, which must not be logged. */
export const isKeySetting = (name: string): boolean =>
  ALL.some(({ env }) => env.key === name || env.aliases?.some(alias => alias.name === name))

type Values = Record<string, unknown>

/**
 * @param values the settings, cleaned and checked
 * @param order the setting `PROVIDERS`
 */
export function configuredProviders(values: Values, order: string | undefined): ProviderConfig[] {
  const configured = new Map<string, ProviderConfig>()
  for (const descriptor of ALL) {
    const provider = configuredProvider(descriptor, values)
    if (provider) configured.set(descriptor.name, provider)
  }
  if (order === undefined) return [...configured.values()]
  return order.split(',').map(part => {
    const name = part.trim().toLowerCase()
    const descriptor = ALL.find(row => row.name === name)
    if (!descriptor)
      throw new ConfigError(`PROVIDERS: unknown provider "${name}" (known: ${PROVIDER_NAMES.join(', ')})`)
    const provider = configured.get(name)
    if (!provider) throw new ConfigError(`PROVIDERS: "${name}" is listed but ${descriptor.env.key} is not set`)
    return { ...provider, explicit: true }
  })
}

function configuredProvider(descriptor: ProviderDescriptor, values: Values): ProviderConfig | null {
  const { name, adapter, env, embeds, keyless } = descriptor
  const value = (setting: string | undefined) => (setting ? (values[setting] as string | undefined) : undefined)
  const keys = [{ name: env.key, bearer: undefined }, ...(env.aliases ?? [])]
  const key = keys.find(one => value(one.name) !== undefined)
  const apiKey = value(key?.name) ?? null
  const address = value(env.url)
  const baseUrl = providerUrl(descriptor, address)
  const vendor = new URL(descriptor.baseUrl).hostname
  const { hostname } = new URL(baseUrl)
  // Regional hosts belong to the vendor.
  const elsewhere = hostname !== vendor && !hostname.endsWith(`.${vendor}`)
  if (!apiKey && !keyless && !elsewhere) return null
  const own = keyless || !apiKey
  return {
    name,
    adapter,
    baseUrl,
    apiKey,
    ...(key?.bearer && { bearer: true }),
    model: value(env.model) ?? (own ? null : descriptor.defaultModel),
    ...(embeds && { embeds: { model: value(embeds.env) ?? (own ? null : embeds.defaultModel) } }),
    explicit: Boolean(apiKey || address),
    ...(own && { lists: true }),
    ...(adapter === 'ollama' && { maxContext: values.OLLAMA_MAX_CONTEXT as number }),
    ...limitsOf(descriptor, values),
  }
}

/**
 * A price of zero for models on the operator's own servers that have no other price: requests without a key cannot be billed. Models in
 * the built-in list keep their price, in case the server forwards requests to the vendor.
 */
export const ownServerPrices = (providers: readonly ProviderConfig[]): PriceOverride[] =>
  providers.flatMap(({ name, lists }) =>
    lists && name !== 'ollama'
      ? [
          {
            provider: name,
            model: '*',
            prices: [{ input: '0', output: '0' }],
            last: true as const,
          },
        ]
      : [],
  )

function limitsOf(descriptor: ProviderDescriptor, values: Values): Pick<ProviderConfig, 'limits'> {
  const given = limitNames.map(limit => [limit, values[limitSetting(descriptor, limit)] ?? null] as const)
  if (given.every(([, value]) => value === null)) return {}
  return { limits: Object.fromEntries(given) as NonNullable<ProviderConfig['limits']> }
}

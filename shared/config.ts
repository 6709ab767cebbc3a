import type { Static, TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import { type PriceOverride, parsePrices } from './models/price-overrides.ts'
import { type Liveness, parseLiveness } from './process/liveness.ts'
import { passwordsOf } from './redis/url.ts'
import { cleanKey, cleanSetting } from './settings/clean.ts'
import { ConfigError, parseSetting } from './settings/config-error.ts'
import { KEY_VARIABLE } from './settings/endpoint-schema.ts'
import { configuredProviders, isKeySetting, ownServerPrices, type ProviderConfig } from './settings/providers.ts'
import { type ProxySettings, parseProxies, proxySettings } from './settings/proxy.ts'
import { settings } from './settings/settings.ts'
import { type TracingOptions, tracingOptions, tracingSettings } from './tracing/settings.ts'
import { parseTargetPolicy, type TargetPolicy } from './webhooks/target.ts'

export { ConfigError } from './settings/config-error.ts'
export { MAX_LIMIT, type ProviderConfig } from './settings/providers.ts'

type Fixed = {
  [K in Exclude<
    keyof typeof settings,
    `${string}_API_KEY` | `${string}_AUTH_TOKEN` | `${string}_BASE_URL` | `${string}_MODEL`
  >]: (typeof settings)[K]
}
type Settings = Static<ReturnType<typeof Type.Object<Fixed>>>

export type Config = Omit<
  Settings,
  'PROVIDERS' | 'PRICES' | 'WEBHOOK_ALLOW' | keyof typeof tracingSettings | keyof typeof proxySettings
> & {
  providers: ProviderConfig[]
  /** For `createPrices`. */
  prices: PriceOverride[]
  webhookTargets: TargetPolicy
  /** Absent: no proxy. */
  proxies?: ProxySettings
  /** null: no traces are sent. */
  tracing: TracingOptions | null
  /** Tests of crashes shorten these times with LIVENESS_SCALE. */
  liveness: Liveness
  /** The key in an environment variable; undefined: it is not set, or it is a setting of Sluice that is no key. */
  readKey(variable: string): string | undefined
  /** Everything in the environment that may be a key, to be masked in logs. */
  environmentKeys: readonly string[]
}

/**
 * Reads the settings from an environment.
 * @throws ConfigError that names the first setting that is missing or invalid
 */
export function parseConfig(env: Record<string, string | undefined>): Config {
  const values: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(settings)) {
    const raw = isKeySetting(name) || name === 'ADMIN_KEY' ? cleanKey(name, env[name]) : cleanSetting(name, env[name])
    const value = raw === undefined ? schemaDefault(schema) : fromText(schema, raw)
    if (value === undefined) continue
    if (!Value.Check(schema, value)) {
      const secret = /KEY|URL|HEADERS|TOKEN|PROXY/.test(name) ? '' : ` (got ${JSON.stringify(raw)})`
      throw new ConfigError(`${name}: ${Value.Errors(schema, value)[0]?.message ?? 'is not usable'}${secret}`)
    }
    values[name] = value
  }
  const { PROVIDERS: order, PRICES: prices, WEBHOOK_ALLOW: targets, ...rest } = values as Settings
  for (const name of [...Object.keys(tracingSettings), ...Object.keys(proxySettings)])
    delete (rest as Record<string, unknown>)[name]
  if (sameDatabase(rest.QUERY_DATABASE_URL, rest.DATABASE_URL))
    throw new ConfigError('QUERY_DATABASE_URL: is Sluice’s own database, DATABASE_URL')
  const providers = configuredProviders(values, order)
  const proxies = parseProxies(env)
  return {
    ...rest,
    providers,
    prices: [...(prices ? parseSetting('PRICES', () => parsePrices(prices)) : []), ...ownServerPrices(providers)],
    webhookTargets: parseSetting('WEBHOOK_ALLOW', () => parseTargetPolicy(targets ?? '')),
    ...((proxies.http ?? proxies.https) !== null && { proxies }),
    tracing: tracingOptions(values as Settings, proxies),
    liveness: parseLiveness(env.LIVENESS_SCALE),
    readKey: variable =>
      Object.hasOwn(settings, variable) && !isKeySetting(variable) ? undefined : cleanKey(variable, env[variable]),
    environmentKeys: Object.entries(env).flatMap(([name, value]) =>
      new RegExp(KEY_VARIABLE).test(name) && value?.trim() ? [value.trim()] : [],
    ),
  }
}

/** Compares the URLs only; a worker also asks the servers. */
function sameDatabase(one: string | undefined, other: string | undefined): boolean {
  if (one === undefined || other === undefined || !URL.canParse(one) || !URL.canParse(other)) return false
  const [a, b] = [new URL(one), new URL(other)]
  return a.hostname === b.hostname && (a.port || '5432') === (b.port || '5432') && a.pathname === b.pathname
}

/** Value.Convert alone would accept 8080.5 as 8080, and `true` as 1. */
const fromText = (schema: TSchema, raw: string): unknown =>
  (schema as { type?: unknown }).type === 'integer' && !/^[+-]?\d+$/.test(raw) ? raw : Value.Convert(schema, raw)

const schemaDefault = (schema: TSchema) => (schema as { default?: unknown }).default

/** The secrets in the settings, which must not appear in a log. */
export function secretsOf(config: Config): string[] {
  const urls = [
    config.DATABASE_URL,
    config.QUERY_DATABASE_URL,
    config.REDIS_URL,
    config.CACHE_REDIS_URL,
    config.tracing?.url,
    config.proxies?.http,
    config.proxies?.https,
  ]
  const inUrl = (text: string): string[] => [
    ...new Set(passwordsOf(text).flatMap(password => [password, encodeURIComponent(password)])),
  ]
  const all = [
    ...config.providers.flatMap(one => one.apiKey ?? []),
    ...(config.ADMIN_KEY === undefined ? [] : [config.ADMIN_KEY]),
    ...config.environmentKeys,
    ...urls.flatMap(text => (text ? inUrl(text) : [])),
    ...Object.values(config.tracing?.headers ?? {}),
  ]
  return [...new Set(all)]
}

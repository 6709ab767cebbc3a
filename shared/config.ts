import { isIPv6 } from 'node:net'
import { type Static, type TSchema, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { LimitName } from './gate/types.ts'
import { type PriceOverride, parsePrices } from './models/price-overrides.ts'
import { PROVIDER_NAMES, PROVIDERS, type ProviderDescriptor } from './models/providers.ts'
import { CLUSTER_URL, clusterOf, unescaped } from './redis-url.ts'
import { parsePairs, type TracingOptions, tracingSettings } from './tracing/settings.ts'
import { parseTargets, type TargetPolicy } from './webhooks/target.ts'

/** A setting that cannot be used. `message` is one line that names it. */
export class ConfigError extends Error {}

const url = (description: string) => Type.Optional(Type.String({ pattern: '^https?://\\S+$', description }))
const port = (fallback: number, description: string) =>
  Type.Integer({ minimum: 0, maximum: 65_535, default: fallback, description })
const count = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ minimum, maximum, default: fallback, description })

/** What `<PROVIDER>_RPM` and its like limit, for each model of the provider. */
const LIMITS: Record<LimitName, string> = {
  rpm: 'requests a minute',
  tpm: 'tokens a minute',
  itpm: 'input tokens a minute',
  otpm: 'output tokens a minute',
  concurrency: 'calls at a time',
}
const limitNames = Object.keys(LIMITS) as LimitName[]

/** The name that a provider's settings begin with. */
const envPrefix = ({ env }: ProviderDescriptor) => env.model.replace(/_MODEL$/, '')
const limitSetting = (descriptor: ProviderDescriptor, limit: LimitName) =>
  `${envPrefix(descriptor)}_${limit.toUpperCase()}`

/** Beyond this the gate does not count. */
export const MOST_LIMIT = 1_000_000_000_000

const providerSettings: Record<string, TSchema> = {}
for (const descriptor of PROVIDERS as readonly ProviderDescriptor[]) {
  const { name, env, baseUrl, defaultModel, embeds } = descriptor
  if (env.key) {
    providerSettings[env.key] = Type.Optional(
      Type.String({ minLength: 1, description: `Key for ${name}; setting it configures the provider.` }),
    )
    providerSettings[env.url] = url(`Base URL for ${name} (default \`${baseUrl}\`).`)
  } else {
    providerSettings[env.url] = Type.Optional(
      Type.String({
        minLength: 1,
        description: `Address of ${name}, as its own tools take it; unset: used if one answers at \`${baseUrl}\`.`,
      }),
    )
  }
  providerSettings[env.model] = Type.Optional(
    Type.String({
      minLength: 1,
      description: `Default model for ${name} (${defaultModel ? `default \`${defaultModel}\`` : 'default: the first that it lists'}).`,
    }),
  )
  if (embeds) {
    providerSettings[embeds.env] = Type.Optional(
      Type.String({
        minLength: 1,
        description: `Model of ${name} for vectors (${embeds.defaultModel ? `default \`${embeds.defaultModel}\`` : 'default: the first that it lists'}), whatever its name.`,
      }),
    )
  }
  for (const limit of limitNames) {
    providerSettings[limitSetting(descriptor, limit)] = Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: MOST_LIMIT,
        description: `Limits for each model of ${name}: ${Object.values(LIMITS).join(', ')}; unset: none, 0: nothing passes. \`PUT /api/v1/providers/${name}/limits\` changes them while it runs.`,
        // One row of the table for all of them.
        row: limitSetting(descriptor, limitNames[0]!),
      }),
    )
  }
}

/** Of one server, or of a cluster. */
const REDIS_URL = `^rediss?://\\S+$|${CLUSTER_URL.source}`

/** Every setting, described where it is declared. README's table is generated from this (`npm run docs`). */
export const settings = {
  PORT: port(8080, 'Port of the API.'),
  HOST: Type.String({ minLength: 1, default: '127.0.0.1', description: 'Address that the API and the workers bind.' }),
  DATA_DIR: Type.String({
    minLength: 1,
    default: '.data',
    description: 'Where `npm start` keeps Postgres, Redis and the admin key.',
  }),
  DATABASE_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://\\S+$',
      description: 'Postgres to use; unset: `npm start` runs its own in `DATA_DIR`.',
    }),
  ),
  REDIS_URL: Type.Optional(
    Type.String({
      pattern: REDIS_URL,
      description:
        'Redis or Valkey for the queue (`maxmemory-policy noeviction`): `redis://user:password@host:port`, `rediss://` with TLS, `redis+cluster://user:password@host:port,host:port` a [cluster](#redis-cluster-tls-acl); unset: `npm start` runs its own.',
    }),
  ),
  CACHE_REDIS_URL: Type.Optional(
    Type.String({
      pattern: REDIS_URL,
      description: 'Redis for the response cache; unset beside a `REDIS_URL`: shared with the queue.',
    }),
  ),
  CACHE_MAX_MB: count(256, 1, 1_000_000, 'Bound of the response cache, in MB.'),
  DB_POOL: count(10, 5, 200, 'Postgres connections per process. Three of one process may be held for locks.'),
  WORKERS_MIN: count(
    1,
    0,
    256,
    'Worker processes that `npm start` always runs; 0: none at all, whatever `WORKERS_MAX` says, for workers that run elsewhere.',
  ),
  WORKERS_MAX: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 256,
      description:
        'Worker processes that `npm start` runs when there is [work for them](docs/scaling.md); unset: one a core, or `WORKERS_MIN`. As many again for batches.',
    }),
  ),
  BATCH_PROCESSES: count(
    1,
    0,
    256,
    'Worker processes for batches, of a lower priority, that `npm start` always runs beside them; 0: the others run batches, too.',
  ),
  WORKER_CONCURRENCY: count(100, 1, 10_000, 'Tasks that one worker process runs at a time.'),
  WORKER_CONCURRENCY_MAX: count(
    400,
    1,
    10_000,
    'So many it runs at a time under `npm start` before there is another process; not below `WORKER_CONCURRENCY`.',
  ),
  WORKER_MAX_MB: count(
    1500,
    0,
    1_000_000,
    'A worker process of `npm start` that occupies more memory, in MB, is replaced: another one starts, and it finishes its calls; 0: never.',
  ),
  SCALE_TARGET_SECONDS: count(
    10,
    1,
    3600,
    'How long a task may wait for a worker: what `GET /scale` and `npm start` aim at. `moderate`: a fifth of it, batches: 30 times.',
  ),
  BATCH_CONCURRENCY: count(
    100,
    1,
    10_000,
    'Lines of batches that one worker process runs at most at a time, beside `WORKER_CONCURRENCY` tasks.',
  ),
  WORKER_PORT: port(
    9464,
    'Port of a worker’s `/metrics` and `/health`; `npm start` counts up from it per process; 0, or if it is taken: any free port (`metrics_port` of `GET /api/v1/workers`).',
  ),
  PROVIDERS: Type.Optional(
    Type.String({
      minLength: 1,
      description: `Providers in order of preference, comma-separated (${PROVIDER_NAMES.join(', ')}); default: all that are configured.`,
    }),
  ),
  ...providerSettings,
  PRICES: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'What models cost, in dollars per million tokens, where the built-in list does not say or says otherwise: JSON such as `{"openai/my-model": {"input": 1.5, "output": 6, "cache_read": 0.15}, "google/*": {"input": "2", "output": "12", "bands": [{"above": 200000, "input": 4, "output": 18}]}}`. Also `cache_write` (like `cache_read`, `input` unless given), `batch` (the share that a batch costs, default 1), `from` (a date; before it the built-in price holds).',
    }),
  ),
  FILES_URL: Type.Optional(
    Type.String({
      pattern: '^s3://[a-z0-9][a-z0-9.-]+(/\\S*)?$',
      description:
        'Where the bytes of files are kept, such as `s3://bucket/prefix`; unset: in Postgres. Region and credentials are what the AWS SDK finds (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, profiles, roles). Files that are there already stay where they are.',
    }),
  ),
  FILES_S3_ENDPOINT: url('Address of an S3-compatible server instead of AWS; buckets are then part of the path.'),
  FILE_RETENTION_DAYS: count(
    30,
    0,
    36_500,
    'Days after which files of batches, input and output, are deleted, unless the client said otherwise; 0: never.',
  ),
  CALL_TIMEOUT_SECONDS: count(120, 1, 3600, 'Upper bound of one provider call, never past the task’s deadline.'),
  MAX_ATTEMPTS: count(
    5,
    1,
    100,
    'Provider calls of one task that may fail, over all providers. Those that its worker’s death or drain cut off are not counted.',
  ),
  BACKOFF_BASE_MS: count(500, 1, 60_000, 'First retry comes after a random wait up to this; doubled each time.'),
  BACKOFF_MAX_MS: count(
    30_000,
    1,
    3_600_000,
    'Upper bound of that wait, unless the provider’s Retry-After asks for more.',
  ),
  QUERY_DATABASE_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://\\S+$',
      description:
        'Postgres that tasks of the kind `query` run on when they say `execute`, as the role of this URL: one that may only read, and only what every key may see. Never Sluice’s own database, never a superuser; unset: nothing is run.',
    }),
  ),
  QUERY_TIMEOUT_SECONDS: count(5, 1, 300, 'How long one such query may take before it is stopped.'),
  DRAIN_SECONDS: count(30, 1, 3600, 'How long a stopping process lets running calls finish before it hands them back.'),
  RESULT_RETENTION_DAYS: count(
    0,
    0,
    36_500,
    'Tasks and batches that have ended are deleted so many days after they were made; 0: never. What they cost stays in the sums.',
  ),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'Least severe level that is logged.',
  }),
  ...tracingSettings,
  ADMIN_KEY: Type.Optional(
    Type.String({
      minLength: 24,
      description:
        'Key with every scope, installed when the API starts; `npm start` makes one up in `DATA_DIR/admin.key`.',
    }),
  ),
  WEBHOOK_ALLOW: Type.Optional(
    Type.String({
      description:
        'What webhooks may reach beyond `https://` at public addresses, over `http://` too: addresses, CIDRs and names, comma-separated (`10.1.0.0/16, hooks.internal, *.apps.internal`).',
    }),
  ),
  QUEUES_WRITABLE: Type.Boolean({ default: false, description: 'Lets the dashboard at `/queues` change jobs.' }),
  REDIS_PREFIX: Type.String({
    pattern: '^[A-Za-z0-9_.-]+$',
    default: 'sluice',
    description: 'Prefix of every Redis key, so that installations can share a server.',
  }),
} satisfies Record<string, TSchema>

type Fixed = {
  [K in Exclude<
    keyof typeof settings,
    `${string}_API_KEY` | `${string}_BASE_URL` | `${string}_MODEL`
  >]: (typeof settings)[K]
}
type Settings = Static<ReturnType<typeof Type.Object<Fixed>>>

/** A provider that the operator configured. */
export type ProviderConfig = {
  name: string
  adapter: ProviderDescriptor['adapter']
  baseUrl: string
  apiKey: string | null
  model: string | null
  /** The model for vectors; absent: it makes none. */
  embeds?: { model: string | null }
  /** false: the operator did not name it; use it only if something answers at `baseUrl`. */
  explicit: boolean
  /** Of each of its models; absent: the settings limit nothing. */
  limits?: Record<LimitName, number | null>
}

export type Config = Omit<Settings, 'PROVIDERS' | 'PRICES' | 'WEBHOOK_ALLOW' | keyof typeof tracingSettings> & {
  providers: ProviderConfig[]
  /** For `createPrices`. */
  prices: PriceOverride[]
  webhookTargets: TargetPolicy
  /** null: no traces. */
  tracing: TracingOptions | null
}

/**
 * An address as a URL; null if it is none. `OLLAMA_HOST` may be, as for Ollama's own tools, `host`, `host:port`, `:port`,
 * an IPv6 address with or without brackets, or a URL; without a scheme the port is 11434.
 */
function toUrl(address: string): string | null {
  if (/\s/.test(address)) return null
  if (/^https?:\/\//i.test(address)) return URL.canParse(address) ? address : null
  const [authority = '', path] = address.split(/\/(.*)/s)
  const [, host = '', port = '11434'] = isIPv6(authority)
    ? ['', `[${authority}]`]
    : (/^(.*?)(?::(\d+))?$/.exec(authority) ?? [])
  const url = `http://${host || '127.0.0.1'}:${port}${path ? `/${path}` : ''}`
  return URL.canParse(url) ? url : null
}

/**
 * Reads the settings from an environment.
 * @throws ConfigError naming the first setting that is missing or cannot be used
 */
export function parseConfig(env: Record<string, string | undefined>): Config {
  const values: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(settings)) {
    const raw = env[name]
    const value = raw === undefined || raw === '' ? schemaDefault(schema) : fromText(schema, raw)
    if (value === undefined) continue
    if (!Value.Check(schema, value)) {
      const secret = /KEY|URL|HEADERS/.test(name) ? '' : ` (got ${JSON.stringify(raw)})`
      throw new ConfigError(`${name}: ${Value.Errors(schema, value)[0]?.message ?? 'is not usable'}${secret}`)
    }
    values[name] = value
  }
  const { PROVIDERS: order, PRICES: prices, WEBHOOK_ALLOW: targets, ...rest } = values as Settings
  for (const name of Object.keys(tracingSettings)) delete (rest as Record<string, unknown>)[name]
  if (sameDatabase(rest.QUERY_DATABASE_URL, rest.DATABASE_URL))
    throw new ConfigError('QUERY_DATABASE_URL: is Sluice’s own database, DATABASE_URL')
  return {
    ...rest,
    providers: configuredProviders(env, values, order),
    prices: prices ? parsed('PRICES', () => parsePrices(prices)) : [],
    webhookTargets: parsed('WEBHOOK_ALLOW', () => parseTargets(targets ?? '')),
    tracing: tracingOptions(values as Settings),
  }
}

function tracingOptions(values: Settings): TracingOptions | null {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } = values
  const pairs = (name: 'OTEL_EXPORTER_OTLP_HEADERS' | 'OTEL_RESOURCE_ATTRIBUTES') =>
    parsed(name, () => parsePairs(values[name] ?? ''))
  const options = {
    headers: pairs('OTEL_EXPORTER_OTLP_HEADERS'),
    resource: pairs('OTEL_RESOURCE_ATTRIBUTES'),
    service: values.OTEL_SERVICE_NAME ?? null,
    ratio: values.OTEL_TRACES_SAMPLER_ARG,
    content: values.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT,
  }
  if (endpoint === undefined) return null
  if (!URL.canParse(endpoint)) throw new ConfigError('OTEL_EXPORTER_OTLP_ENDPOINT: is not an address')
  return { ...options, url: `${endpoint.replace(/\/+$/, '')}/v1/traces` }
}

/** As far as the URLs say; a worker asks the servers, too. */
function sameDatabase(one: string | undefined, other: string | undefined): boolean {
  if (one === undefined || other === undefined || !URL.canParse(one) || !URL.canParse(other)) return false
  const [a, b] = [new URL(one), new URL(other)]
  return a.hostname === b.hostname && (a.port || '5432') === (b.port || '5432') && a.pathname === b.pathname
}

function parsed<T>(name: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    throw new ConfigError(`${name}: ${(error as Error).message}`)
  }
}

/** Value.Convert alone would take 8080.5 for 8080, and `true` for 1. */
const fromText = (schema: TSchema, raw: string): unknown =>
  (schema as { type?: unknown }).type === 'integer' && !/^\s*[+-]?\d+\s*$/.test(raw) ? raw : Value.Convert(schema, raw)

const schemaDefault = (schema: TSchema) => (schema as { default?: unknown }).default

function configuredProviders(
  env: Record<string, string | undefined>,
  values: Record<string, unknown>,
  order: string | undefined,
): ProviderConfig[] {
  const configured = new Map<string, ProviderConfig>()
  for (const descriptor of PROVIDERS as readonly ProviderDescriptor[]) {
    const apiKey = (descriptor.env.key && env[descriptor.env.key]) || null
    const address = env[descriptor.env.url]
    if (!apiKey && !descriptor.keyless) continue
    const baseUrl = address ? toUrl(address) : descriptor.baseUrl
    if (baseUrl === null) throw new ConfigError(`${descriptor.env.url}: is not an address`)
    configured.set(descriptor.name, {
      name: descriptor.name,
      adapter: descriptor.adapter,
      baseUrl,
      apiKey,
      model: env[descriptor.env.model] || descriptor.defaultModel,
      ...(descriptor.embeds && {
        embeds: { model: env[descriptor.embeds.env] || descriptor.embeds.defaultModel },
      }),
      explicit: Boolean(apiKey || address),
      ...limitsOf(descriptor, values),
    })
  }
  if (order === undefined) return [...configured.values()]
  return order.split(',').map(part => {
    const name = part.trim()
    const descriptor = (PROVIDERS as readonly ProviderDescriptor[]).find(row => row.name === name)
    if (!descriptor)
      throw new ConfigError(`PROVIDERS: unknown provider "${name}" (known: ${PROVIDER_NAMES.join(', ')})`)
    const provider = configured.get(name)
    if (!provider) throw new ConfigError(`PROVIDERS: "${name}" is listed but ${descriptor.env.key} is not set`)
    return { ...provider, explicit: true }
  })
}

function limitsOf(descriptor: ProviderDescriptor, values: Record<string, unknown>): Pick<ProviderConfig, 'limits'> {
  const given = limitNames.map(limit => [limit, values[limitSetting(descriptor, limit)] ?? null] as const)
  if (given.every(([, value]) => value === null)) return {}
  return { limits: Object.fromEntries(given) as NonNullable<ProviderConfig['limits']> }
}

/** What the settings hold that belongs in no log. */
export function secretsOf(config: Config): string[] {
  const urls = [
    config.DATABASE_URL,
    config.QUERY_DATABASE_URL,
    config.REDIS_URL,
    config.CACHE_REDIS_URL,
    config.tracing?.url,
  ]
  const inUrl = (text: string): string[] => {
    const password = clusterOf(text)?.password ?? (URL.canParse(text) ? unescaped(new URL(text).password) : '')
    return password ? [...new Set([password, encodeURIComponent(password)])] : []
  }
  return [
    ...config.providers.flatMap(one => one.apiKey ?? []),
    ...(config.ADMIN_KEY === undefined ? [] : [config.ADMIN_KEY]),
    ...urls.flatMap(text => (text ? inUrl(text) : [])),
    ...Object.values(config.tracing?.headers ?? {}),
  ]
}

/** The settings as a Markdown table, for the README. */
export function settingsTable(): string {
  const rows = Object.groupBy(Object.entries(settings), ([name, schema]) => (schema as { row?: string }).row ?? name)
  const lines = Object.values(rows).map(row => {
    const { description, default: fallback } = row![0]![1] as { description?: string; default?: unknown }
    const names = row!.map(([name]) => `\`${name}\``).join(' ')
    return `| ${names} | ${fallback === undefined ? '' : `\`${String(fallback)}\``} | ${description ?? ''} |`
  })
  return ['| setting | default | what it does |', '|---|---|---|', ...lines].join('\n')
}

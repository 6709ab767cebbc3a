import { describe, expect, it } from 'vitest'
import { ConfigError, parseConfig, secretsOf, settings, settingsTable } from './config.ts'
import { PROVIDERS } from './models/providers.ts'

function refusal(env: Record<string, string>): string {
  try {
    parseConfig(env)
  } catch (error) {
    if (error instanceof ConfigError) return error.message
    throw error
  }
  throw new Error('It was accepted.')
}
const named = (env: Record<string, string>) => parseConfig(env).providers.map(provider => provider.name)
const KEYS = Object.fromEntries(PROVIDERS.flatMap(({ env }) => ('key' in env ? [[env.key, 'k']] : [])))

describe('settings', () => {
  it('has a default for everything that a single machine needs', () => {
    const { providers, prices, webhookTargets, ...rest } = parseConfig({})
    expect(webhookTargets).toMatchObject({ names: new Set(), suffixes: [], byAddress: false })
    expect(rest).toEqual({
      PORT: 8080,
      HOST: '127.0.0.1',
      DATA_DIR: '.data',
      CACHE_MAX_MB: 256,
      DB_POOL: 10,
      WORKERS_MIN: 1,
      BATCH_PROCESSES: 1,
      WORKER_CONCURRENCY: 100,
      WORKER_CONCURRENCY_MAX: 400,
      WORKER_MAX_MB: 1500,
      SCALE_TARGET_SECONDS: 10,
      BATCH_CONCURRENCY: 100,
      WORKER_PORT: 9464,
      FILE_RETENTION_DAYS: 30,
      CALL_TIMEOUT_SECONDS: 120,
      MAX_ATTEMPTS: 5,
      tracing: null,
      BACKOFF_BASE_MS: 500,
      BACKOFF_MAX_MS: 30_000,
      DRAIN_SECONDS: 30,
      RESULT_RETENTION_DAYS: 0,
      LOG_LEVEL: 'info',
      QUERY_TIMEOUT_SECONDS: 5,
      QUEUES_WRITABLE: false,
      REDIS_PREFIX: 'sluice',
    })
    expect(providers).toEqual([expect.objectContaining({ name: 'ollama', explicit: false })])
    expect(prices).toEqual([])
  })

  it('reads numbers and switches from text', () => {
    expect(parseConfig({ PORT: '0', QUEUES_WRITABLE: 'true' })).toMatchObject({ PORT: 0, QUEUES_WRITABLE: true })
  })

  it('takes an empty value for an absent one', () => {
    expect(parseConfig({ PORT: '', DATABASE_URL: '', LOG_LEVEL: '' })).toMatchObject({ PORT: 8080, LOG_LEVEL: 'info' })
  })

  it.each([
    ['PORT', 'abc'],
    ['PORT', '8080.5'],
    ['PORT', 'true'],
    ['PORT', '-1'],
    ['PORT', '70000'],
    ['WORKER_CONCURRENCY', '0'],
    ['CACHE_MAX_MB', '256MB'],
    ['MAX_ATTEMPTS', '1e1000'],
    ['LOG_LEVEL', 'loud'],
    ['QUEUES_WRITABLE', 'perhaps'],
    ['DATABASE_URL', 'mysql://localhost/x'],
    ['DATABASE_URL', 'postgres://a b/c'],
    ['QUERY_DATABASE_URL', 'mysql://localhost/x'],
    ['QUERY_TIMEOUT_SECONDS', '0'],
    ['REDIS_URL', 'localhost:6379'],
    ['CACHE_REDIS_URL', 'http://localhost'],
    ['REDIS_PREFIX', 'a{b}'],
    ['FILES_URL', 'https://bucket/prefix'],
    ['FILES_URL', 's3://'],
    ['FILES_S3_ENDPOINT', 'minio:9000'],
    ['FILE_RETENTION_DAYS', '-1'],
    ['ADMIN_KEY', 'too short'],
    ['WEBHOOK_ALLOW', '10.0.0.0/33'],
    ['WEBHOOK_ALLOW', 'http://localhost'],
    ['ANTHROPIC_BASE_URL', 'api.anthropic.com'],
    ['OLLAMA_HOST', 'two words'],
    ['OLLAMA_HOST', 'http://['],
    ['OLLAMA_HOST', 'localhost:99999'],
    ['PROVIDERS', 'anthropic,nobody'],
    ['PROVIDERS', 'openai'],
    ['ANTHROPIC_RPM', '-1'],
    ['GOOGLE_AI_TPM', '1.5'],
    ['OLLAMA_CONCURRENCY', 'four'],
    ['OPENAI_OTPM', '1e4'],
    ['PRICES', '{'],
    ['PRICES', '{"openai/x": {"input": 1}}'],
  ])('refuses %s=%s with one line that names it', (name, value) => {
    const message = refusal({ [name]: value })
    expect(message).toMatch(new RegExp(`^${name}: .`))
    expect(message).not.toContain('\n')
  })

  it('takes no database to run queries on that is Sluice’s own, whoever goes there', () => {
    const DATABASE_URL = 'postgres://sluice:a@db.internal/sluice'
    const of = (QUERY_DATABASE_URL: string) => refusal({ DATABASE_URL, QUERY_DATABASE_URL })
    expect(of('postgresql://reader:b@db.internal:5432/sluice?sslmode=require')).toMatch(
      /^QUERY_DATABASE_URL: is Sluice’s own/,
    )
    expect(parseConfig({ DATABASE_URL, QUERY_DATABASE_URL: 'postgres://reader@db.internal/shop' })).toMatchObject({
      QUERY_TIMEOUT_SECONDS: 5,
    })
  })

  it('reads prices', () => {
    expect(parseConfig({ PRICES: '{"openai/x": {"input": 1.5, "output": 6}}' }).prices).toEqual([
      { provider: 'openai', model: 'x', prices: [{ input: '1.5', output: '6' }] },
    ])
  })

  it('does not repeat a secret in its complaint', () => {
    expect(refusal({ ADMIN_KEY: 'hunter2' })).not.toContain('hunter2')
    expect(refusal({ DATABASE_URL: 'mysql://me:hunter2@db/x' })).not.toContain('hunter2')
    expect(refusal({ OLLAMA_HOST: 'http://me:hunter2@[' })).not.toContain('hunter2')
  })

  it('describes every setting in the table', () => {
    const table = settingsTable()
    for (const [name, schema] of Object.entries(settings)) {
      expect(table.match(new RegExp(`^\\|[^|]* \`${name}\` [^|]*\\|`, 'gm')), name).toHaveLength(1)
      expect((schema as { description?: string }).description).toMatch(/.{5}/)
    }
  })
})

describe('providers', () => {
  it('uses those that have a key, in the order of the catalogue, and looks for Ollama', () => {
    expect(named(KEYS)).toEqual(PROVIDERS.map(provider => provider.name))
    expect(named({ OPENAI_API_KEY: 'k' })).toEqual(['openai', 'ollama'])
  })

  it('does not take a base URL alone for a configured provider', () => {
    expect(named({ OPENAI_BASE_URL: 'http://localhost:8000/v1' })).toEqual(['ollama'])
  })

  it('follows the order of PROVIDERS and leaves out what it does not list', () => {
    expect(named({ ...KEYS, PROVIDERS: ' ollama , deepseek,anthropic' })).toEqual(['ollama', 'deepseek', 'anthropic'])
  })

  it('says which key a listed provider lacks', () => {
    expect(refusal({ PROVIDERS: 'deepseek' })).toBe('PROVIDERS: "deepseek" is listed but DEEPSEEK_API_KEY is not set')
  })

  it('takes Ollama for named once PROVIDERS lists it, without an address', () => {
    expect(parseConfig({ PROVIDERS: 'ollama' }).providers[0]).toMatchObject({ explicit: true })
  })

  it('gives each its key, address and model', () => {
    const env = { ANTHROPIC_API_KEY: 'k', ANTHROPIC_BASE_URL: 'http://proxy/x', ANTHROPIC_MODEL: 'm' }
    expect(parseConfig(env).providers[0]).toEqual({
      name: 'anthropic',
      adapter: 'anthropic',
      baseUrl: 'http://proxy/x',
      apiKey: 'k',
      model: 'm',
      explicit: true,
    })
  })

  it('gives each its limits, if any are set', () => {
    const limits = { ANTHROPIC_RPM: '50', ANTHROPIC_ITPM: '40000', GOOGLE_AI_CONCURRENCY: '0' }
    const none = { rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }
    expect(parseConfig({ ...KEYS, ...limits }).providers.map(one => [one.name, one.limits])).toEqual([
      ['anthropic', { ...none, rpm: 50, itpm: 40_000 }],
      ['openai', undefined],
      ['google', { ...none, concurrency: 0 }],
      ['deepseek', undefined],
      ['ollama', undefined],
    ])
  })

  it.each([
    ['localhost', 'http://localhost:11434'],
    ['localhost:5000', 'http://localhost:5000'],
    ['0.0.0.0', 'http://0.0.0.0:11434'],
    [':5000', 'http://127.0.0.1:5000'],
    ['::1', 'http://[::1]:11434'],
    ['[::1]', 'http://[::1]:11434'],
    ['[::1]:5000', 'http://[::1]:5000'],
    ['localhost/', 'http://localhost:11434'],
    ['gpu.example:5000/ollama', 'http://gpu.example:5000/ollama'],
    ['http://gpu.example', 'http://gpu.example'],
    ['https://gpu.example/ollama', 'https://gpu.example/ollama'],
    ['HTTP://gpu.example', 'HTTP://gpu.example'],
  ])('reads OLLAMA_HOST=%s as Ollama does', (address, baseUrl) => {
    expect(parseConfig({ OLLAMA_HOST: address }).providers).toEqual([
      expect.objectContaining({ name: 'ollama', baseUrl, explicit: true }),
    ])
  })
})

describe('traces', () => {
  const OTEL_EXPORTER_OTLP_ENDPOINT = 'http://collector:4318/base/'

  it('are sent below the endpoint, all of them unless a share is named', () => {
    expect(parseConfig({ OTEL_EXPORTER_OTLP_HEADERS: 'a=b' }).tracing).toBeNull()
    expect(parseConfig({ OTEL_EXPORTER_OTLP_ENDPOINT }).tracing).toEqual({
      url: 'http://collector:4318/base/v1/traces',
      headers: {},
      resource: {},
      service: null,
      ratio: 1,
      content: false,
    })
    expect(
      parseConfig({
        OTEL_EXPORTER_OTLP_ENDPOINT,
        OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Basic%20abc',
        OTEL_RESOURCE_ATTRIBUTES: 'a.b=c',
        OTEL_SERVICE_NAME: 'mine',
        OTEL_TRACES_SAMPLER_ARG: '0.25',
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT: 'true',
      }).tracing,
    ).toMatchObject({
      headers: { Authorization: 'Basic abc' },
      resource: { 'a.b': 'c' },
      service: 'mine',
      ratio: 0.25,
      content: true,
    })
  })

  it.each([
    ['OTEL_EXPORTER_OTLP_HEADERS', 'planted'],
    ['OTEL_EXPORTER_OTLP_ENDPOINT', 'collector:4318'],
    ['OTEL_TRACES_SAMPLER_ARG', '1.5'],
    ['OTEL_TRACES_SAMPLER_ARG', 'all'],
  ])('are refused with %s=%s', (name, value) => {
    const message = refusal({ OTEL_EXPORTER_OTLP_ENDPOINT, [name]: value })
    expect(message).toMatch(`${name}: `)
    expect(message).not.toContain('planted')
  })
})

it('names every secret of the settings, for the log to mask', () => {
  const config = parseConfig({
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://collector',
    OTEL_EXPORTER_OTLP_HEADERS: 'Authorization=Basic%20abc',
    DATABASE_URL: 'postgres://me:pass%2Fword@db/x',
    REDIS_URL: 'redis://redis',
    ADMIN_KEY: 'an-admin-key-of-24-letters',
    ANTHROPIC_API_KEY: 'sk-ant-x',
  })
  expect(secretsOf(config).toSorted()).toEqual(
    ['sk-ant-x', 'an-admin-key-of-24-letters', 'pass%2Fword', 'pass/word', 'Basic abc'].toSorted(),
  )
})

it.each([
  'redis+cluster://me:pass%2Fword@one:7000,two:7000',
  'rediss://me:pass%2Fword@redis',
  'rediss+cluster://me:pass%2Fword@one:7000/',
])('names the password of %s', REDIS_URL => {
  expect(secretsOf(parseConfig({ REDIS_URL })).toSorted()).toEqual(['pass%2Fword', 'pass/word'])
})

it.each(['DATABASE_URL', 'QUERY_DATABASE_URL'])('names the password of %s', name => {
  expect(secretsOf(parseConfig({ [name]: 'postgres://me:planted@one/other' }))).toEqual(['planted'])
})

it.each([
  'redis://',
  'redis+cluster://',
  'redis+cluster://one',
  'redis+cluster://one:7000,',
  'redis+cluster://one:7000,two',
  'redis+cluster://one:700000',
  'redis+cluster://one:7000/1',
  'redis+cluster://planted@one:7000',
  'http://one:7000',
])('refuses a REDIS_URL of %s, and does not repeat it', REDIS_URL => {
  const message = refusal({ REDIS_URL })
  expect(message).toMatch('REDIS_URL: ')
  expect(message).not.toContain(REDIS_URL)
})

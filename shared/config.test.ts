import { describe, expect, it } from 'vitest'
import { ConfigError, parseConfig, secretsOf } from './config.ts'
import { createPrices } from './models/prices.ts'
import { PROVIDERS } from './models/providers.ts'
import { settings, settingsTable } from './settings/settings.ts'

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
  it('have a default for everything that a single machine needs', () => {
    const { providers, prices, webhookTargets, liveness: _, ...rest } = parseConfig({})
    expect(webhookTargets).toMatchObject({ names: new Set(), suffixes: [], byAddress: false })
    expect(rest).toEqual({
      readKey: expect.any(Function),
      environmentKeys: [],
      PORT: 8080,
      HOST: '127.0.0.1',
      DATA_DIR: '.data',
      BODY_MEMORY_MB: 64,
      EVENT_STREAMS_PER_KEY: 1000,
      EVENT_STREAMS_MAX: 4000,
      OLLAMA_MAX_CONTEXT: 32_768,
      CACHE_MAX_MB: 256,
      DB_POOL: 10,
      DIRECT_CONCURRENCY: 1000,
      WORKERS_MIN: 1,
      BATCH_PROCESSES: 1,
      WORKER_CONCURRENCY: 100,
      WORKER_CONCURRENCY_MAX: 400,
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

  it('parse numbers and booleans from text', () => {
    expect(parseConfig({ PORT: '0', QUEUES_WRITABLE: 'true' })).toMatchObject({ PORT: 0, QUEUES_WRITABLE: true })
  })

  describe('text around a value', () => {
    it.each(['sk-1\n', ' sk-1 ', '"sk-1"', "'sk-1'", '" sk-1 "\r\n', '\ufeffsk-1', '\u00a0sk-1'])(
      'is removed: %j is the key alone',
      OPENAI_API_KEY => expect(parseConfig({ OPENAI_API_KEY }).providers[0]!.apiKey).toBe('sk-1'),
    )

    it('is removed from every type of setting', () => {
      const env = {
        ...{ PORT: '"8081"', LOG_LEVEL: " 'warn'\n", QUEUES_WRITABLE: ' true ', REDIS_PREFIX: '"mine"' },
        ...{ DATABASE_URL: '"postgres://u:p@db/x"\n', PROVIDERS: '" OpenAI , ollama "', OPENAI_API_KEY: 'k' },
        ...{
          ADMIN_KEY: `"${'k'.repeat(24)}"\n`,
          WEBHOOK_ALLOW: ' "10.0.0.0/8" ',
          OPENAI_MODEL: '"m"',
          OPENAI_RPM: ' 5\n',
        },
        PRICES: `'{"openai/x":\n {"input": 1, "output": 2}}'`,
      }
      expect(parseConfig(env)).toMatchObject({
        ...{
          PORT: 8081,
          LOG_LEVEL: 'warn',
          QUEUES_WRITABLE: true,
          REDIS_PREFIX: 'mine',
          DATABASE_URL: 'postgres://u:p@db/x',
        },
        ADMIN_KEY: 'k'.repeat(24),
        providers: [{ name: 'openai', model: 'm', limits: { rpm: 5 } }, { name: 'ollama' }],
        prices: [{ model: 'x' }],
      })
    })

    it.each([
      ['OPENAI_API_KEY', '"sk-1'],
      ['OPENAI_API_KEY', "sk-1'"],
      ['OPENAI_API_KEY', 'sk-1\nsk-2'],
      ['OPENAI_API_KEY', 'Bearer sk-1'],
      ['OPENAI_API_KEY', '“sk-1”'],
      ['OPENAI_API_KEY', 'sk-\u200b1'],
      ['GEMINI_API_KEY', 'two words'],
      ['ANTHROPIC_AUTH_TOKEN', 'a\tb'],
      ['ADMIN_KEY', `${'k'.repeat(24)} ${'k'.repeat(24)}`],
      ['LOG_LEVEL', 'info\nwarn'],
      ['OPENAI_MODEL', '"gpt'],
      ['DATABASE_URL', 'postgres://db/x\npostgres://db/y'],
    ])('is refused by name where it is ambiguous: %s=%j', (name, value) => {
      const message = refusal({ [name]: value })
      expect(message).toMatch(new RegExp(`^${name}: .`))
      expect(message).not.toContain('sk-')
    })

    it.each(['', ' ', '\n', '""', "''", '" "'])('%j is no value', text => {
      expect(named({ OPENAI_API_KEY: text, OPENAI_BASE_URL: text })).toEqual(['ollama'])
      expect(parseConfig({ PORT: text }).PORT).toBe(8080)
    })
  })

  it('treat an empty value as unset', () => {
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
  ])('%s=%s is refused with one line that names it', (name, value) => {
    const message = refusal({ [name]: value })
    expect(message).toMatch(new RegExp(`^${name}: .`))
    expect(message).not.toContain('\n')
  })

  it('refuse a query database that is Sluice’s own, under any user', () => {
    const DATABASE_URL = 'postgres://sluice:a@db.internal/sluice'
    const of = (QUERY_DATABASE_URL: string) => refusal({ DATABASE_URL, QUERY_DATABASE_URL })
    expect(of('postgresql://reader:b@db.internal:5432/sluice?sslmode=require')).toMatch(
      /^QUERY_DATABASE_URL: is Sluice’s own/,
    )
    expect(parseConfig({ DATABASE_URL, QUERY_DATABASE_URL: 'postgres://reader@db.internal/shop' })).toMatchObject({
      QUERY_TIMEOUT_SECONDS: 5,
    })
  })

  it('parse prices', () => {
    expect(parseConfig({ PRICES: '{"openai/x": {"input": 1.5, "output": 6}}' }).prices).toEqual([
      { provider: 'openai', model: 'x', prices: [{ input: '1.5', output: '6' }] },
    ])
  })

  it('do not repeat a secret in an error', () => {
    expect(refusal({ ADMIN_KEY: 'hunter2' })).not.toContain('hunter2')
    expect(refusal({ DATABASE_URL: 'mysql://me:hunter2@db/x' })).not.toContain('hunter2')
    expect(refusal({ OLLAMA_HOST: 'http://me:hunter2@[' })).not.toContain('hunter2')
  })

  it('are all described in the table', () => {
    const table = settingsTable()
    for (const [name, schema] of Object.entries(settings)) {
      expect(table.match(new RegExp(`^\\|[^|]* \`${name}\` [^|]*\\|`, 'gm')), name).toHaveLength(1)
      expect((schema as { description?: string }).description).toMatch(/.{5}/)
    }
  })
})

describe('providers', () => {
  it('are those with a key, in the order of the catalogue, and Ollama', () => {
    expect(named(KEYS)).toEqual(PROVIDERS.map(provider => provider.name))
    expect(named({ OPENAI_API_KEY: 'k' })).toEqual(['openai', 'ollama'])
  })

  it.each([
    ['OPENAI_BASE_URL', 'http://localhost:1234/v1', 'openai'],
    ['OPENAI_BASE_URL', 'https://vllm.internal', 'openai'],
    ['ANTHROPIC_BASE_URL', 'http://localhost:8000', 'anthropic'],
    ['GOOGLE_AI_BASE_URL', 'http://localhost:4000', 'google'],
    ['DEEPSEEK_BASE_URL', 'http://localhost:4000', 'deepseek'],
  ])('%s=%s is a server of the operator, without a key', (name, address, provider) => {
    const { providers, prices } = parseConfig({ [name]: address })
    expect(providers[0]).toMatchObject({ name: provider, apiKey: null, model: null, explicit: true, lists: true })
    const list = createPrices(prices)
    expect(
      list.costOf(provider, 'my-model', { inputTokens: 9, outputTokens: 9, cacheReadTokens: 0, cacheWriteTokens: 0 }),
    ).toBe('0.000000000000')
    // What the built-in list knows might be passed on to the vendor.
    const known = PROVIDERS.find(one => one.name === provider)!.defaultModel!
    expect(list.priceOf(provider, known)).toEqual(createPrices().priceOf(provider, known))
  })

  it.each([
    { OPENAI_BASE_URL: 'https://api.openai.com/v1' },
    { OPENAI_BASE_URL: 'https://eu.api.openai.com/v1' },
    { ANTHROPIC_BASE_URL: 'https://api.anthropic.com/' },
    { GOOGLE_AI_BASE_URL: 'https://generativelanguage.googleapis.com/v1beta/openai' },
    { DEEPSEEK_BASE_URL: 'https://api.deepseek.com/v1' },
  ])('%o, the address of the vendor, configures no provider', env => expect(named(env)).toEqual(['ollama']))

  it('of the operator that have a key have only the prices of PRICES', () => {
    const { providers, prices } = parseConfig({ OPENAI_API_KEY: 'k', OPENAI_BASE_URL: 'http://localhost:4000' })
    expect(providers[0]).not.toHaveProperty('lists')
    expect(createPrices(prices).priceOf('openai', 'my-model')).toBeNull()
  })

  it('PRICES override the price of 0 of a server without a key', () => {
    const { prices } = parseConfig({
      OPENAI_BASE_URL: 'http://localhost:1',
      PRICES: '{"openai/m*": {"input": 1, "output": 1}}',
    })
    expect(createPrices(prices).priceOf('openai', 'mine')?.bands[0]).toMatchObject({ input: 1_000_000n })
    expect(createPrices(prices).priceOf('openai', 'other')?.bands[0]).toMatchObject({ input: 0n })
  })

  const URLS: [name: string, address: string, baseUrl: string][] = [
    ['OPENAI', 'http://host:8000', 'http://host:8000/v1'],
    ['OPENAI', 'http://host:8000/', 'http://host:8000/v1'],
    ['OPENAI', 'http://host:8000/v1', 'http://host:8000/v1'],
    ['OPENAI', 'http://host:8000/v1/', 'http://host:8000/v1'],
    ['OPENAI', 'http://host:8000/v1/chat/completions', 'http://host:8000/v1'],
    ['OPENAI', 'https://openrouter.ai/api/v1', 'https://openrouter.ai/api/v1'],
    ['OPENAI', 'https://host/openai/deployments/x/', 'https://host/openai/deployments/x'],
    ['ANTHROPIC', 'http://host', 'http://host'],
    ['ANTHROPIC', 'http://host/', 'http://host'],
    ['ANTHROPIC', 'http://host/v1', 'http://host'],
    ['ANTHROPIC', 'http://host/v1/messages', 'http://host'],
    ['ANTHROPIC', 'http://host/anthropic/v1/', 'http://host/anthropic'],
    [
      'GOOGLE_AI',
      'https://generativelanguage.googleapis.com',
      'https://generativelanguage.googleapis.com/v1beta/openai',
    ],
    [
      'GOOGLE_AI',
      'https://generativelanguage.googleapis.com/v1beta/',
      'https://generativelanguage.googleapis.com/v1beta/openai',
    ],
    [
      'GOOGLE_AI',
      'https://generativelanguage.googleapis.com/v1',
      'https://generativelanguage.googleapis.com/v1beta/openai',
    ],
    [
      'GOOGLE_AI',
      'https://generativelanguage.googleapis.com/v1beta/openai/',
      'https://generativelanguage.googleapis.com/v1beta/openai',
    ],
    ['GOOGLE_AI', 'http://litellm:4000/v1', 'http://litellm:4000/v1'],
    ['DEEPSEEK', 'https://api.deepseek.com/', 'https://api.deepseek.com'],
    ['DEEPSEEK', 'https://api.deepseek.com/v1', 'https://api.deepseek.com/v1'],
  ]
  it.each(URLS)('%s_BASE_URL=%s becomes %s', (name, address, baseUrl) => {
    const env = { [`${name}_API_KEY`]: 'k', [`${name}_BASE_URL`]: address }
    expect(parseConfig(env).providers[0]!.baseUrl).toBe(baseUrl)
  })

  it.each(['http://me:hunter2@host', 'http://host/v1?key=hunter2', 'host:8000', 'ftp://host', 'http://'])(
    'refuses %s as a base URL, by name and without a secret',
    address => expect(refusal({ OPENAI_BASE_URL: address })).toMatch(/^OPENAI_BASE_URL: (?!.*hunter2)/),
  )

  it.each([
    [{ GEMINI_API_KEY: 'a' }, 'a'],
    [{ GOOGLE_API_KEY: 'b' }, 'b'],
    [{ GEMINI_API_KEY: 'a', GOOGLE_API_KEY: 'b' }, 'b'],
    [{ GEMINI_API_KEY: 'a', GOOGLE_API_KEY: 'b', GOOGLE_AI_API_KEY: 'c' }, 'c'],
    [{ GEMINI_API_KEY: 'a', GOOGLE_AI_API_KEY: ' ' }, 'a'],
  ])('Google’s key is taken from %o', (env, apiKey) => {
    expect(parseConfig(env).providers[0]).toMatchObject({ name: 'google', apiKey, model: 'gemini-2.5-flash' })
    expect(secretsOf(parseConfig(env))).toContain(apiKey)
  })

  it('ANTHROPIC_AUTH_TOKEN is sent as a bearer token if there is no key', () => {
    expect(parseConfig({ ANTHROPIC_AUTH_TOKEN: 't' }).providers[0]).toMatchObject({ apiKey: 't', bearer: true })
    expect(parseConfig({ ANTHROPIC_AUTH_TOKEN: 't', ANTHROPIC_API_KEY: 'k' }).providers[0]).not.toHaveProperty('bearer')
  })

  it('follow the order of PROVIDERS, which leaves out the rest', () => {
    expect(named({ ...KEYS, PROVIDERS: ' ollama , deepseek,anthropic' })).toEqual(['ollama', 'deepseek', 'anthropic'])
  })

  it('that are listed without a key cause an error that names the key', () => {
    expect(refusal({ PROVIDERS: 'deepseek' })).toBe('PROVIDERS: "deepseek" is listed but DEEPSEEK_API_KEY is not set')
  })

  it('count Ollama as explicit if PROVIDERS lists it without an address', () => {
    expect(parseConfig({ PROVIDERS: 'ollama' }).providers[0]).toMatchObject({ explicit: true })
  })

  it('have their key, address and model', () => {
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

  it('have their limits, if any are set', () => {
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
    ['0.0.0.0', 'http://127.0.0.1:11434'],
    ['0.0.0.0:5000', 'http://127.0.0.1:5000'],
    ['http://0.0.0.0:11434/', 'http://127.0.0.1:11434'],
    ['[::]:5000', 'http://[::1]:5000'],
    ['http://gpu.example:11434/v1', 'http://gpu.example:11434'],
    [' "gpu.example"\n', 'http://gpu.example:11434'],
    [':5000', 'http://127.0.0.1:5000'],
    ['::1', 'http://[::1]:11434'],
    ['[::1]', 'http://[::1]:11434'],
    ['[::1]:5000', 'http://[::1]:5000'],
    ['localhost/', 'http://localhost:11434'],
    ['gpu.example:5000/ollama', 'http://gpu.example:5000/ollama'],
    ['http://gpu.example', 'http://gpu.example'],
    ['https://gpu.example/ollama', 'https://gpu.example/ollama'],
    ['HTTP://gpu.example', 'http://gpu.example'],
  ])('OLLAMA_HOST=%s is read as Ollama reads it', (address, baseUrl) => {
    expect(parseConfig({ OLLAMA_HOST: address }).providers).toEqual([
      expect.objectContaining({ name: 'ollama', baseUrl, explicit: true }),
    ])
  })
})

describe('traces', () => {
  const OTEL_EXPORTER_OTLP_ENDPOINT = 'http://collector:4318/base/'

  it('are sent below the endpoint, all of them unless a share is set', () => {
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

it('secretsOf returns every secret of the settings', () => {
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
])('secretsOf returns the password of %s', REDIS_URL => {
  expect(secretsOf(parseConfig({ REDIS_URL })).toSorted()).toEqual(['pass%2Fword', 'pass/word'])
})

it.each(['DATABASE_URL', 'QUERY_DATABASE_URL'])('secretsOf returns the password of %s', name => {
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
])('a REDIS_URL of %s is refused and not repeated', REDIS_URL => {
  const message = refusal({ REDIS_URL })
  expect(message).toMatch('REDIS_URL: ')
  expect(message).not.toContain(REDIS_URL)
})

import { type TSchema, Type } from 'typebox'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { CLUSTER_URL, SENTINEL_URL } from '#shared/redis/url.ts'
import { tracingSettings } from '#shared/tracing/settings.ts'
import { providerSettings } from './providers.ts'
import { proxySettings } from './proxy.ts'

const url = (description: string) => Type.Optional(Type.String({ pattern: '^https?://\\S+$', description }))
const port = (fallback: number, description: string) =>
  Type.Integer({ minimum: 0, maximum: 65_535, default: fallback, description })
const count = (fallback: number, minimum: number, maximum: number, description: string) =>
  Type.Integer({ minimum, maximum, default: fallback, description })

/** Of one server, of a cluster, or of Sentinels. */
const REDIS_URL = `^rediss?://\\S+$|${CLUSTER_URL.source}|${SENTINEL_URL.source}`

/** Every setting, described where it is declared. The table in docs/configuration.md is generated from it (`npm run docs`). */
export const settings = {
  PORT: port(8080, 'Port of the API.'),
  HOST: Type.String({
    minLength: 1,
    default: '127.0.0.1',
    description: 'Address that the API and the workers bind to.',
  }),
  DATA_DIR: Type.String({
    minLength: 1,
    default: '.data',
    description: 'Directory in which `npm start` keeps Postgres, Redis and the admin key.',
  }),
  DATABASE_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://\\S+$',
      description: 'URL of Postgres. Unset: `npm start` runs its own in `DATA_DIR`.',
    }),
  ),
  REDIS_URL: Type.Optional(
    Type.String({
      pattern: REDIS_URL,
      description:
        'URL of the Redis or Valkey for the queue (`maxmemory-policy noeviction`): `redis://user:password@host:port`, or `rediss://` with TLS. [Cluster and Sentinel](running.md#redis-cluster-sentinel-tls-acl): `redis+cluster://user:password@host:port,host:port`, `redis+sentinel://user:password@host:port,host:port/master`. Unset: `npm start` runs its own.',
    }),
  ),
  CACHE_REDIS_URL: Type.Optional(
    Type.String({
      pattern: REDIS_URL,
      description:
        'URL of the Redis for the response cache. Unset while `REDIS_URL` is set: the cache shares the Redis of the queue.',
    }),
  ),
  OLLAMA_MAX_CONTEXT: count(
    32_768,
    4096,
    10_000_000,
    'Maximum context (`num_ctx`, in tokens) that Sluice requests from Ollama. Sluice sizes the context by the prompt. A prompt that needs more fails with `context_exceeded`. The memory of Ollama grows with the context.',
  ),
  CACHE_MAX_MB: count(256, 1, 1_000_000, 'Maximum size of the response cache, in MB.'),
  BODY_MEMORY_MB: count(
    64,
    32,
    1_000_000,
    'Maximum memory for request bodies in one API process, in MiB after decompression. A body counts until its request is answered. A key may use half; beyond that it gets `rate_limited` (429). When all is used, requests get `server_busy` (503). An upload counts 1 MiB, or 6 MiB with `FILES_URL`.',
  ),
  DIRECT_CONCURRENCY: count(
    1000,
    0,
    100_000,
    'Maximum number of requests that one API process runs itself at once because their clients wait. Further requests go to the queue, and their clients keep waiting. 0: all go to the queue.',
  ),
  DB_POOL: count(10, 5, 200, 'Postgres connections per process. Locks may hold three of them.'),
  WORKERS_MIN: count(
    1,
    0,
    256,
    'Minimum number of worker processes under `npm start`. 0: `npm start` runs no workers, whatever `WORKERS_MAX` is, because they run elsewhere.',
  ),
  WORKERS_MAX: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 256,
      description:
        'Maximum number of worker processes under `npm start`, which [scales by work](scaling.md). Batch workers have a maximum of the same size. At least `WORKERS_MIN`. Unset: one per core.',
    }),
  ),
  BATCH_PROCESSES: count(
    1,
    0,
    256,
    'Minimum number of additional worker processes for batches under `npm start`. They run at a lower priority. 0: the other workers also run batches.',
  ),
  WORKER_CONCURRENCY: count(100, 1, 10_000, 'Tasks that one worker process runs concurrently.'),
  WORKER_CONCURRENCY_MAX: count(
    400,
    1,
    10_000,
    'Tasks that one worker process of `npm start` runs concurrently. At least `WORKER_CONCURRENCY`.',
  ),
  SCALE_TARGET_SECONDS: count(
    10,
    1,
    3600,
    'Target for the time that a task waits for a worker, used by `GET /scale` and `npm start`. The target for `moderate` is a fifth of it, for batches 30 times as long.',
  ),
  BATCH_CONCURRENCY: count(
    100,
    1,
    10_000,
    'Maximum number of batch lines that one worker process runs concurrently, in addition to `WORKER_CONCURRENCY` tasks.',
  ),
  WORKER_PORT: port(
    9464,
    'Port of `/metrics` and `/health` of a worker. `npm start` counts up from it for each process. If it is 0 or taken, the worker uses any free port; `metrics_port` in `GET /api/v1/workers` shows it.',
  ),
  PROVIDERS: Type.Optional(
    Type.String({
      minLength: 1,
      description: `Providers in order of preference, comma-separated (${PROVIDER_NAMES.join(', ')}). Unset: all configured providers.`,
    }),
  ),
  PROVIDERS_FILE: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Path of a YAML or JSON file with any number of providers, pools and aliases ([providers](providers-and-models.md#providers-by-configuration)). Changes apply without a restart.',
    }),
  ),
  ...providerSettings,
  PRICES: Type.Optional(
    Type.String({
      minLength: 1,
      description:
        'Prices of models in dollars per million tokens, which override or extend the built-in list. JSON such as `{"openai/my-model": {"input": 1.5, "output": 6, "cache_read": 0.15}, "google/*": {"input": "2", "output": "12", "bands": [{"above": 200000, "input": 4, "output": 18}]}}`. Optional fields: `cache_read` and `cache_write` (default: `input`), `batch` (price factor of a batch, default 1), `from` (a date; the built-in price applies before it).',
    }),
  ),
  FILES_URL: Type.Optional(
    Type.String({
      pattern: '^s3://[a-z0-9][a-z0-9.-]+(/\\S*)?$',
      description:
        'Storage of file contents, such as `s3://bucket/prefix`. Unset: Postgres. The AWS SDK finds region and credentials (`AWS_REGION`, `AWS_ACCESS_KEY_ID`, profiles, roles). Existing files stay where they are.',
    }),
  ),
  FILES_S3_ENDPOINT: url('URL of an S3-compatible server to use instead of AWS. The bucket is then part of the path.'),
  FILE_RETENTION_DAYS: count(
    30,
    0,
    36_500,
    'Days after which input and output files are deleted, unless the client set `expires_after`. 0: never.',
  ),
  CALL_TIMEOUT_SECONDS: count(
    120,
    1,
    3600,
    'Maximum duration of one provider call. A call never runs past the deadline of its task.',
  ),
  MAX_ATTEMPTS: count(
    5,
    1,
    100,
    'Maximum number of failed provider calls per task, over all providers. Calls that were cut off because their worker died or drained do not count.',
  ),
  BACKOFF_BASE_MS: count(
    500,
    1,
    60_000,
    'Upper bound of the random wait before the first retry. It doubles with each retry.',
  ),
  BACKOFF_MAX_MS: count(
    30_000,
    1,
    3_600_000,
    'Maximum wait before a retry, unless the provider requests more with `Retry-After`.',
  ),
  QUERY_DATABASE_URL: Type.Optional(
    Type.String({
      pattern: '^postgres(ql)?://\\S+$',
      description:
        'Postgres on which tasks of the kind `query` with `execute` run, as the role of this URL. The role must be read-only and limited to data that every key may see. It must not be a superuser, and the database must not be Sluice’s own. Unset: queries are not executed.',
    }),
  ),
  QUERY_TIMEOUT_SECONDS: count(5, 1, 300, 'Maximum duration of such a query.'),
  DRAIN_SECONDS: count(
    30,
    1,
    3600,
    'Time for running calls to finish when a process stops. The process then returns the remaining tasks to the queue.',
  ),
  RESULT_RETENTION_DAYS: count(
    0,
    0,
    36_500,
    'Days after which ended tasks and batches are deleted. 0: never. Cost reports keep their costs.',
  ),
  EVENT_STREAMS_PER_KEY: count(
    1000,
    1,
    1_000_000,
    'Maximum number of event streams (tasks and batches) that a key may have open at one API process. More get `too_many_streams`.',
  ),
  EVENT_STREAMS_MAX: count(
    4000,
    1,
    1_000_000,
    'Maximum number of event streams of all keys at one API process. More get `server_busy`.',
  ),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'Minimum log level.',
  }),
  ...tracingSettings,
  ...proxySettings,
  ADMIN_KEY: Type.Optional(
    Type.String({
      minLength: 24,
      description:
        'API key with every scope, installed when the API starts. Unset: `npm start` generates one in `DATA_DIR/admin.key`.',
    }),
  ),
  WEBHOOK_ALLOW: Type.Optional(
    Type.String({
      description:
        'Addresses, CIDRs and host names, comma-separated, that webhooks may reach, and from which Sluice fetches images, in addition to `https://` at public addresses. `http://` is allowed for them (`10.1.0.0/16, hooks.internal, *.apps.internal`).',
    }),
  ),
  QUEUES_WRITABLE: Type.Boolean({ default: false, description: 'Allows the dashboard at `/queues` to change jobs.' }),
  REDIS_PREFIX: Type.String({
    pattern: '^[A-Za-z0-9_.-]+$',
    default: 'sluice',
    description: 'Prefix of every Redis key, so that installations can share a server.',
  }),
} satisfies Record<string, TSchema>

/** The settings as a Markdown table, for docs/configuration.md. */
export function settingsTable(): string {
  const rows = Object.groupBy(Object.entries(settings), ([name, schema]) => (schema as { row?: string }).row ?? name)
  const lines = Object.values(rows).map(row => {
    const { description, default: fallback } = row![0]![1] as { description?: string; default?: unknown }
    const names = row!.map(([name]) => `\`${name}\``).join(' ')
    return `| ${names} | ${fallback === undefined ? '' : `\`${String(fallback)}\``} | ${description ?? ''} |`
  })
  return ['| setting | default | description |', '|---|---|---|', ...lines].join('\n')
}

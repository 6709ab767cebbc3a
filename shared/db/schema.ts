import { sql } from 'drizzle-orm'
import {
  bigint,
  bigserial,
  boolean,
  check,
  customType,
  index,
  integer,
  json,
  numeric,
  pgTable,
  primaryKey,
  smallint,
  text,
  timestamp,
  unique,
  uuid,
} from 'drizzle-orm/pg-core'

/** Dollars, exact to the picodollar. */
const usd = (name: string) => numeric(name, { precision: 24, scale: 12 })
const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })

/**
 * No foreign keys: each would cost a lookup per row in statements that carry hundreds, and rows are only ever
 * written by the statements in this folder. Payloads are `json`, not `jsonb`: nothing queries into them.
 */
export const apiKeys = pgTable('api_keys', {
  id: uuid('id').primaryKey(),
  name: text('name').notNull(),
  /** SHA-256 of the secret. */
  secretHash: bytea('secret_hash').notNull().unique(),
  /** Last characters of the secret, to tell keys apart. */
  hint: text('hint').notNull(),
  scopes: text('scopes').array().notNull(),
  /** null: no limit. */
  requestsPerMinute: integer('requests_per_minute'),
  /** Its share of the workers when several keys have more tasks than can run. */
  weight: smallint('weight').notNull().default(1),
  createdAt: moment('created_at').notNull().defaultNow(),
  revokedAt: moment('revoked_at'),
})

export const tasks = pgTable(
  'tasks',
  {
    id: uuid('id').primaryKey(),
    kind: text('kind').notNull(),
    /** queued | running | succeeded | failed | cancelled | expired */
    status: text('status').notNull().default('queued'),
    queue: text('queue').notNull(),
    /** interactive | normal | low */
    priority: text('priority').notNull(),
    apiKeyId: uuid('api_key_id').notNull(),
    input: json('input').notNull(),
    options: json('options').notNull(),
    metadata: json('metadata'),
    /** Counts dispatches; a job of an older epoch has lost its claim to the task. */
    epoch: integer('epoch').notNull().default(0),
    /** The process that holds the claim while `running`. */
    workerId: uuid('worker_id'),
    /** Claims since the last settlement. */
    claims: smallint('claims').notNull().default(0),
    /** Attempts started so far; the number of the newest. */
    attempts: integer('attempts').notNull().default(0),
    /** Settled attempts that count against the cap; one that a draining worker gave back does not. */
    tries: smallint('tries').notNull().default(0),
    runAt: moment('run_at').notNull(),
    /** When its present epoch was handed to the queue; null: it waits here, in its key's backlog. */
    dispatchedAt: moment('dispatched_at'),
    deadlineAt: moment('deadline_at').notNull(),
    /** SHA-256 of the canonical request; null: it neither uses nor feeds the cache. */
    cacheKey: bytea('cache_key'),
    /** The live task with the same request whose answer this one waits for, undispatched. */
    leaderId: uuid('leader_id'),
    result: json('result'),
    /** ai | cache | precomputed | rules */
    source: text('source'),
    /** high | medium | low */
    quality: text('quality'),
    provider: text('provider'),
    model: text('model'),
    /** {code, message, ...} when it did not succeed. */
    error: json('error'),
    createdAt: moment('created_at').notNull(),
    startedAt: moment('started_at'),
    finishedAt: moment('finished_at'),
  },
  table => [
    check('tasks_status', sql`status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')`),
    index('tasks_by_key').on(table.apiKeyId, table.status, table.id),
    // A queued row is in one of these two.
    index('tasks_backlog')
      .on(table.apiKeyId, table.priority, table.runAt)
      .where(sql`status = 'queued' AND dispatched_at IS NULL`),
    index('tasks_dispatched')
      .on(table.apiKeyId, table.priority, table.dispatchedAt)
      .where(sql`status = 'queued' AND dispatched_at IS NOT NULL`),
    index('tasks_followers').on(table.leaderId).where(sql`leader_id IS NOT NULL`),
    index('tasks_live').on(table.deadlineAt).where(sql`status IN ('queued', 'running')`),
    index('tasks_running').on(table.workerId).where(sql`status = 'running'`),
  ],
)

/** The ledger: one row a provider call, written before the call is made. */
export const attempts = pgTable(
  'attempts',
  {
    taskId: uuid('task_id').notNull(),
    n: integer('n').notNull(),
    workerId: uuid('worker_id').notNull(),
    provider: text('provider').notNull(),
    model: text('model').notNull(),
    kind: text('kind').notNull(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** What the call could cost at most, reserved in each of `windows` when it was started. */
    reservedUsd: usd('reserved_usd').notNull(),
    /** The budget windows that it reserved in, in which it is settled. */
    windows: bigint('windows', { mode: 'number' }).array().notNull(),
    /** Upper bounds of its tokens, as the gate booked them. */
    bookedInputTokens: bigint('booked_input_tokens', { mode: 'number' }).notNull(),
    bookedOutputTokens: bigint('booked_output_tokens', { mode: 'number' }).notNull(),
    /** How often it was settled: 1, and 2 once an `unknown` one was corrected. */
    settlements: smallint('settlements').notNull().default(0),
    /** started, then one of ATTEMPT_OUTCOMES; `unknown` may still be corrected, once. */
    outcome: text('outcome').notNull().default('started'),
    error: json('error'),
    inputTokens: bigint('input_tokens', { mode: 'number' }),
    outputTokens: bigint('output_tokens', { mode: 'number' }),
    cacheReadTokens: bigint('cache_read_tokens', { mode: 'number' }),
    cacheWriteTokens: bigint('cache_write_tokens', { mode: 'number' }),
    /** null while it is started. */
    costUsd: usd('cost_usd'),
    /** Nobody said what it cost: `cost_usd` is what was reserved. */
    estimated: boolean('estimated').notNull().default(false),
    priceVersion: text('price_version'),
    startedAt: moment('started_at').notNull(),
    finishedAt: moment('finished_at'),
  },
  table => [
    primaryKey({ columns: [table.taskId, table.n] }),
    index('attempts_open').on(table.workerId).where(sql`outcome = 'started'`),
    // What the last minute's calls were, when a gate is rebuilt.
    index('attempts_recent').on(table.startedAt),
  ],
)

/** What may be spent: a limit for a scope and a span of time. */
export const budgets = pgTable(
  'budgets',
  {
    id: uuid('id').primaryKey(),
    /** global | key:<uuid> | kind:<kind> | provider:<name> */
    scope: text('scope').notNull(),
    /** request | hour | day | month | total; UTC. `window` is a reserved word. */
    span: text('span').notNull(),
    limitUsd: usd('limit_usd').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  table => [unique('budgets_scope').on(table.scope, table.span)],
)

/** One row a budget and window; none for `request`. Claims lock them, in the order of their ids. */
export const budgetWindows = pgTable(
  'budget_windows',
  {
    id: bigserial('id', { mode: 'number' }).primaryKey(),
    budgetId: uuid('budget_id').notNull(),
    startsAt: moment('starts_at').notNull(),
    /** null: never. */
    endsAt: moment('ends_at'),
    /** The budget's, here too so that whoever waits for the lock reads the newest. */
    limitUsd: usd('limit_usd').notNull(),
    reservedUsd: usd('reserved_usd').notNull().default('0'),
    spentUsd: usd('spent_usd').notNull().default('0'),
  },
  table => [unique('budget_windows_start').on(table.budgetId, table.startsAt)],
)

/** The ledger summed up by hour, written by the statements that settle. */
export const costRollups = pgTable(
  'cost_rollups',
  {
    /** Beginning of the hour in which the attempts were settled. */
    hour: moment('hour').notNull(),
    provider: text('provider').notNull(),
    model: text('model').notNull(),
    kind: text('kind').notNull(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** Settled attempts. */
    calls: bigint('calls', { mode: 'number' }).notNull(),
    inputTokens: bigint('input_tokens', { mode: 'number' }).notNull(),
    outputTokens: bigint('output_tokens', { mode: 'number' }).notNull(),
    cacheReadTokens: bigint('cache_read_tokens', { mode: 'number' }).notNull(),
    cacheWriteTokens: bigint('cache_write_tokens', { mode: 'number' }).notNull(),
    costUsd: usd('cost_usd').notNull(),
    /** The part of it that is estimated. */
    estimatedUsd: usd('estimated_usd').notNull(),
  },
  table => [primaryKey({ columns: [table.hour, table.provider, table.model, table.kind, table.apiKeyId] })],
)

/** What the operator set while running; wins over the settings. */
export const providerLimits = pgTable(
  'provider_limits',
  {
    provider: text('provider').notNull(),
    /** '': every model of the provider that has no row of its own. */
    model: text('model').notNull(),
    /** {rpm, tpm, itpm, otpm, concurrency}; null: unlimited */
    limits: json('limits').notNull(),
    version: bigserial('version', { mode: 'number' }).notNull(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.provider, table.model] })],
)

/** Provider and model of every gate that was ever opened: one that is missing in Redis has been lost. */
export const gates = pgTable(
  'gates',
  { provider: text('provider').notNull(), model: text('model').notNull(), openedAt: moment('opened_at').notNull() },
  table => [primaryKey({ columns: [table.provider, table.model] })],
)

/** Answers that the operator wrote down for when no model answers. */
export const precomputed = pgTable(
  'precomputed',
  {
    kind: text('kind').notNull(),
    /** SHA-256 of the canonical input; empty: any input of the kind. */
    inputHash: bytea('input_hash').notNull(),
    input: json('input'),
    result: json('result').notNull(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.kind, table.inputHash] })],
)

/** One row a live worker process, with its heartbeat. */
export const workers = pgTable('workers', {
  id: uuid('id').primaryKey(),
  pid: integer('pid').notNull(),
  host: text('host').notNull(),
  queues: text('queues').array().notNull(),
  concurrency: integer('concurrency').notNull(),
  active: integer('active').notNull().default(0),
  metricsPort: integer('metrics_port'),
  /** {<provider>: ok | failing | unreachable}, as its own calls show. */
  providers: json('providers').notNull().default({}),
  startedAt: moment('started_at').notNull().defaultNow(),
  beatAt: moment('beat_at').notNull().defaultNow(),
  lastFetchAt: moment('last_fetch_at'),
})

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    apiKeyId: uuid('api_key_id').notNull(),
    key: text('key').notNull(),
    taskId: uuid('task_id').notNull(),
    /** SHA-256 of kind and canonical body. */
    requestHash: bytea('request_hash').notNull(),
    expiresAt: moment('expires_at').notNull(),
  },
  table => [primaryKey({ columns: [table.apiKeyId, table.key] }), index('idempotency_keys_expiry').on(table.expiresAt)],
)

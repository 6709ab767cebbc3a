import { sql } from 'drizzle-orm'
import {
  bigint,
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
  uuid,
} from 'drizzle-orm/pg-core'

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
    /** started, then one of ATTEMPT_OUTCOMES; `unknown` may still be corrected, once. */
    outcome: text('outcome').notNull().default('started'),
    error: json('error'),
    inputTokens: bigint('input_tokens', { mode: 'number' }),
    outputTokens: bigint('output_tokens', { mode: 'number' }),
    cacheReadTokens: bigint('cache_read_tokens', { mode: 'number' }),
    cacheWriteTokens: bigint('cache_write_tokens', { mode: 'number' }),
    /** null: no price is known. */
    costUsd: numeric('cost_usd', { precision: 24, scale: 12 }),
    priceVersion: text('price_version'),
    startedAt: moment('started_at').notNull(),
    finishedAt: moment('finished_at'),
  },
  table => [
    primaryKey({ columns: [table.taskId, table.n] }),
    index('attempts_open').on(table.workerId).where(sql`outcome = 'started'`),
  ],
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

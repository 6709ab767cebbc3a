import { sql } from 'drizzle-orm'
import {
  boolean,
  check,
  index,
  integer,
  json,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'
import { bytea, timestamptz } from './columns.ts'

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
    /** Counts dispatches. A job of an older epoch cannot claim the task. */
    epoch: integer('epoch').notNull().default(0),
    /** The process that holds the claim while the task is `running`. */
    workerId: uuid('worker_id'),
    /** Claims since the last settlement. */
    claims: smallint('claims').notNull().default(0),
    /** Attempts started so far; the number of the newest. */
    attempts: integer('attempts').notNull().default(0),
    /** Failed attempts that count against the retry limit. Attempts returned by a draining worker do not count. */
    tries: smallint('tries').notNull().default(0),
    runAt: timestamptz('run_at').notNull(),
    /** When the current epoch was sent to the queue; null: the task waits in its key's backlog. */
    dispatchedAt: timestamptz('dispatched_at'),
    deadlineAt: timestamptz('deadline_at').notNull(),
    /** SHA-256 of the canonical request; null: the task neither reads nor fills the cache. */
    cacheKey: bytea('cache_key'),
    /** The live task with the same request whose answer this task waits for. Followers are not dispatched. */
    leaderId: uuid('leader_id'),
    /** Receives a webhook when the task ends. */
    webhookUrl: text('webhook_url'),
    /** The batch that this line belongs to. Lines never enter the queue: the worker of a chunk runs them (`dispatched_at` infinity). */
    batchId: uuid('batch_id'),
    /** Line number in the batch's input, from 1. */
    line: integer('line'),
    /** The client's name for the line. */
    customId: text('custom_id'),
    result: json('result'),
    /** ai | cache | precomputed | rules */
    source: text('source'),
    /** high | medium | low */
    quality: text('quality'),
    provider: text('provider'),
    model: text('model'),
    /** {code, message, ...} if the task did not succeed. */
    error: json('error'),
    /** {type: count} of values removed from the result; null: none. */
    outputFiltered: json('output_filtered'),
    /** One of FINISH_REASONS; null: no model wrote the result, or an earlier version ran the task. */
    finishReason: text('finish_reason'),
    /** The experiment and the variant assigned to this task. */
    experiment: text('experiment'),
    variant: text('variant'),
    /** SHA-256 of the API key and the client's user id. The user id itself is not stored. */
    userHash: bytea('user_hash'),
    /** A compatible surface serves it under its own path: `store` of OpenAI's API. false: deleted there; null: never stored. */
    stored: boolean('stored'),
    /** W3C trace context of the submission, stored here because Redis may lose it; null: not traced. */
    traceparent: text('traceparent'),
    createdAt: timestamptz('created_at').notNull(),
    startedAt: timestamptz('started_at'),
    finishedAt: timestamptz('finished_at'),
  },
  table => [
    check('tasks_status', sql`status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')`),
    index('tasks_by_key').on(table.apiKeyId, table.status, table.id),
    // Every queued row is in one of these two indexes.
    index('tasks_backlog')
      .on(table.apiKeyId, table.priority, table.runAt)
      .where(sql`status = 'queued' AND dispatched_at IS NULL`),
    index('tasks_dispatched')
      .on(table.apiKeyId, table.priority, table.dispatchedAt)
      .where(sql`status = 'queued' AND dispatched_at IS NOT NULL`),
    uniqueIndex('tasks_lines').on(table.batchId, table.line).where(sql`batch_id IS NOT NULL`),
    index('tasks_followers').on(table.leaderId).where(sql`leader_id IS NOT NULL`),
    index('tasks_live').on(table.deadlineAt).where(sql`status IN ('queued', 'running')`),
    index('tasks_running').on(table.workerId).where(sql`status = 'running'`),
    index('tasks_stored').on(table.apiKeyId, table.id).concurrently().where(sql`stored`),
    index('tasks_exposed').on(table.experiment, table.userHash, table.id).where(sql`experiment IS NOT NULL`),
  ],
)

export const idempotencyKeys = pgTable(
  'idempotency_keys',
  {
    apiKeyId: uuid('api_key_id').notNull(),
    key: text('key').notNull(),
    /** The task or batch that the request created. */
    taskId: uuid('task_id').notNull(),
    /** SHA-256 of the request. */
    requestHash: bytea('request_hash').notNull(),
    expiresAt: timestamptz('expires_at').notNull(),
  },
  table => [primaryKey({ columns: [table.apiKeyId, table.key] }), index('idempotency_keys_expiry').on(table.expiresAt)],
)

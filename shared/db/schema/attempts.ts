import { sql } from 'drizzle-orm'
import { bigint, boolean, index, integer, json, pgTable, primaryKey, smallint, text, uuid } from 'drizzle-orm/pg-core'
import { timestamptz, usd } from './columns.ts'

/** The ledger: one row per provider call, written before the call. */
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
    /** Upper bound of the call's cost, reserved in each of `windows`. */
    reservedUsd: usd('reserved_usd').notNull(),
    /** Ids of the budget windows that hold the reservation and receive the settlement. */
    windows: bigint('windows', { mode: 'number' }).array().notNull(),
    /** Upper bounds of the call's tokens, as booked at the gate. */
    bookedInputTokens: bigint('booked_input_tokens', { mode: 'number' }).notNull(),
    bookedOutputTokens: bigint('booked_output_tokens', { mode: 'number' }).notNull(),
    /** Number of settlements: 1, or 2 after an `unknown` attempt was corrected. */
    settlements: smallint('settlements').notNull().default(0),
    /** started, then one of ATTEMPT_OUTCOMES. `unknown` may be corrected once. */
    outcome: text('outcome').notNull().default('started'),
    error: json('error'),
    inputTokens: bigint('input_tokens', { mode: 'number' }),
    outputTokens: bigint('output_tokens', { mode: 'number' }),
    cacheReadTokens: bigint('cache_read_tokens', { mode: 'number' }),
    cacheWriteTokens: bigint('cache_write_tokens', { mode: 'number' }),
    /** The part of `output_tokens` spent on reasoning; null: not reported. */
    reasoningTokens: bigint('reasoning_tokens', { mode: 'number' }),
    /** One of FINISH_REASONS; null: no text answer. */
    finishReason: text('finish_reason'),
    /** null while the attempt is started. */
    costUsd: usd('cost_usd'),
    /** The real cost is unknown: `cost_usd` is the reservation. */
    estimated: boolean('estimated').notNull().default(false),
    priceVersion: text('price_version'),
    promptVersion: text('prompt_version'),
    startedAt: timestamptz('started_at').notNull(),
    finishedAt: timestamptz('finished_at'),
  },
  table => [
    primaryKey({ columns: [table.taskId, table.n] }),
    index('attempts_open').on(table.workerId).where(sql`outcome = 'started'`),
    // Finds the calls of the last minute when a gate is rebuilt.
    index('attempts_recent').on(table.startedAt),
  ],
)

/** Hourly sums of the ledger, written by the statements that settle attempts. */
export const costRollups = pgTable(
  'cost_rollups',
  {
    /** Start of the hour in which the attempts were settled. */
    hour: timestamptz('hour').notNull(),
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
    reasoningTokens: bigint('reasoning_tokens', { mode: 'number' }).notNull().default(0),
    costUsd: usd('cost_usd').notNull(),
    /** The estimated part of `cost_usd`. */
    estimatedUsd: usd('estimated_usd').notNull(),
  },
  table => [primaryKey({ columns: [table.hour, table.provider, table.model, table.kind, table.apiKeyId] })],
)

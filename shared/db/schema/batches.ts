import { sql } from 'drizzle-orm'
import { bigint, check, index, integer, json, pgTable, smallint, text, uniqueIndex, uuid } from 'drizzle-orm/pg-core'
import { timestamptz, usd } from './columns.ts'

/** Counts of lines by status, and the tokens and cost of their calls. */
const lineTotals = () => ({
  succeeded: integer('succeeded').notNull().default(0),
  failed: integer('failed').notNull().default(0),
  cancelled: integer('cancelled').notNull().default(0),
  expired: integer('expired').notNull().default(0),
  inputTokens: bigint('input_tokens', { mode: 'number' }).notNull().default(0),
  outputTokens: bigint('output_tokens', { mode: 'number' }).notNull().default(0),
  cacheReadTokens: bigint('cache_read_tokens', { mode: 'number' }).notNull().default(0),
  cacheWriteTokens: bigint('cache_write_tokens', { mode: 'number' }).notNull().default(0),
  reasoningTokens: bigint('reasoning_tokens', { mode: 'number' }).notNull().default(0),
  costUsd: usd('cost_usd').notNull().default('0'),
})

export const batches = pgTable(
  'batches',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** openai | native: the format of input lines and results */
    surface: text('surface').notNull(),
    /** openai: for example /v1/chat/completions */
    endpoint: text('endpoint'),
    /** native: the job kind of all lines */
    kind: text('kind'),
    /** validating | in_progress | finalizing | completed | failed | expired | cancelling | cancelled */
    status: text('status').notNull().default('validating'),
    inputFileId: uuid('input_file_id').notNull(),
    outputFileId: uuid('output_file_id'),
    errorFileId: uuid('error_file_id'),
    /** native: {format: jsonl | json | csv, columns?, template?} */
    mapping: json('mapping'),
    /** native: task options for all lines */
    options: json('options').notNull().default({}),
    priority: text('priority').notNull().default('normal'),
    metadata: json('metadata'),
    completionWindow: text('completion_window').notNull().default('24h'),
    outputExpiresSeconds: integer('output_expires_seconds'),
    webhookUrl: text('webhook_url'),
    /** W3C trace context of the submission; null: not traced. */
    traceparent: text('traceparent'),
    maxCostUsd: usd('max_cost_usd'),
    /** Upper bound of the cost of all lines, computed by validation. */
    boundUsd: usd('bound_usd'),
    /** The model, if all lines name the same one. */
    model: text('model'),
    /** [{code, line, message, param}] of a batch that failed. */
    errors: json('errors'),
    /** Number of lines. The totals below are the sums of the chunks, written when the batch ends. */
    total: integer('total').notNull().default(0),
    ...lineTotals(),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    inProgressAt: timestamptz('in_progress_at'),
    finalizingAt: timestamptz('finalizing_at'),
    completedAt: timestamptz('completed_at'),
    failedAt: timestamptz('failed_at'),
    expiredAt: timestamptz('expired_at'),
    cancellingAt: timestamptz('cancelling_at'),
    cancelledAt: timestamptz('cancelled_at'),
    expiresAt: timestamptz('expires_at').notNull(),
  },
  table => [
    check(
      'batches_status',
      sql`status IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired', 'cancelling', 'cancelled')`,
    ),
    index('batches_by_key').on(table.apiKeyId, table.id),
    index('batches_live').on(table.id).where(sql`status IN ('validating', 'in_progress', 'finalizing', 'cancelling')`),
  ],
)

/** Units of work on a batch, one queue job each: validate the input, run a range of lines, write the output. */
export const batchChunks = pgTable(
  'batch_chunks',
  {
    id: uuid('id').primaryKey(),
    batchId: uuid('batch_id').notNull(),
    /** validate | run | finalize */
    step: text('step').notNull(),
    /** run: the range of lines, inclusive */
    firstLine: integer('first_line').notNull().default(0),
    lastLine: integer('last_line').notNull().default(0),
    /** waiting | running | done */
    status: text('status').notNull().default('waiting'),
    /** Counts dispatches, like `tasks.epoch`. */
    epoch: integer('epoch').notNull().default(0),
    claims: smallint('claims').notNull().default(0),
    workerId: uuid('worker_id'),
    /** null: the chunk waits for its batch's turn. */
    dispatchedAt: timestamptz('dispatched_at'),
    /** Written when the chunk is done. */
    ...lineTotals(),
    startedAt: timestamptz('started_at'),
    finishedAt: timestamptz('finished_at'),
  },
  table => [
    uniqueIndex('batch_chunks_lines').on(table.batchId, table.step, table.firstLine),
    index('batch_chunks_waiting').on(table.batchId, table.firstLine).where(sql`status = 'waiting'`),
    index('batch_chunks_running').on(table.workerId).where(sql`status = 'running'`),
  ],
)

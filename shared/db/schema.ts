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
  uniqueIndex,
  uuid,
} from 'drizzle-orm/pg-core'

/** Dollars, exact to the picodollar. */
const usd = (name: string) => numeric(name, { precision: 24, scale: 12 })
const moment = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
const tsvector = customType<{ data: string }>({ dataType: () => 'tsvector' })
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
  /** Signs what is sent to this key's webhooks; in the clear, since both sides must have it. */
  webhookSecret: bytea('webhook_secret')
    .notNull()
    .default(sql`decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')`),
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
    /** Told when it has ended. */
    webhookUrl: text('webhook_url'),
    /** The batch that it is a line of; such a task is never in the queue: a chunk's worker runs it (`dispatched_at` infinity). */
    batchId: uuid('batch_id'),
    /** Number of its line within the batch's input, from 1. */
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
    /** {code, message, ...} when it did not succeed. */
    error: json('error'),
    /** {type: count} of what was taken out of the result; null: nothing. */
    outputFiltered: json('output_filtered'),
    /** The experiment that it is part of, and which of its variants it got. */
    experiment: text('experiment'),
    variant: text('variant'),
    /** SHA-256 of whose task it is: the key and the client's own id of the user, which is kept nowhere. */
    userHash: bytea('user_hash'),
    /** W3C trace context of its submission: here, since Redis may forget. null: nobody traces it. */
    traceparent: text('traceparent'),
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
    uniqueIndex('tasks_lines').on(table.batchId, table.line).where(sql`batch_id IS NOT NULL`),
    index('tasks_followers').on(table.leaderId).where(sql`leader_id IS NOT NULL`),
    index('tasks_live').on(table.deadlineAt).where(sql`status IN ('queued', 'running')`),
    index('tasks_running').on(table.workerId).where(sql`status = 'running'`),
    index('tasks_exposed').on(table.experiment, table.userHash, table.id).where(sql`experiment IS NOT NULL`),
  ],
)

/** What is tried on the users of a kind. */
export const experiments = pgTable('experiments', {
  name: text('name').primaryKey(),
  /** One at a time: two would mix their effects. */
  kind: text('kind').notNull().unique(),
  variants: json('variants').notNull(),
  createdAt: moment('created_at').notNull().defaultNow(),
  updatedAt: moment('updated_at').notNull().defaultNow(),
})

/** Users of an experiment who did what it is about; the first time counts. */
export const conversions = pgTable(
  'conversions',
  {
    experiment: text('experiment').notNull(),
    /** A task's `user_hash`. */
    userKey: bytea('user_key').notNull(),
    /** What the user had got. */
    variant: text('variant').notNull(),
    /** The task that led to it, if the client named it. */
    taskId: uuid('task_id'),
    /** In the client's unit. */
    value: numeric('value'),
    at: moment('at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.experiment, table.userKey] })],
)

/** What was thought of a task's result, last. */
export const feedback = pgTable(
  'feedback',
  {
    taskId: uuid('task_id').primaryKey(),
    /** 1 to 5 */
    score: smallint('score').notNull(),
    note: text('note'),
    /** The key that it was given with. */
    givenBy: uuid('given_by').notNull(),
    at: moment('at').notNull().defaultNow(),
  },
  () => [check('feedback_score', sql`score BETWEEN 1 AND 5`)],
)

/** What moderation blocks and what it leaves to people. */
export const policies = pgTable('policies', {
  name: text('name').primaryKey(),
  /** Counts its changes. */
  version: integer('version').notNull().default(1),
  rules: json('rules').notNull(),
  updatedAt: moment('updated_at').notNull().defaultNow(),
})

/** Texts of a key's own, in which `ask` finds what to answer from. */
export const collections = pgTable(
  'collections',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    name: text('name').notNull(),
    /** Name of a text search configuration of Postgres's own. Not a `regconfig`: pg_upgrade refuses tables with one. */
    language: text('language').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** When it or one of its documents was last written. */
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  table => [unique('collections_name').on(table.apiKeyId, table.name)],
)

export const documents = pgTable(
  'documents',
  {
    collectionId: uuid('collection_id').notNull(),
    id: text('id').notNull(),
    text: text('text').notNull(),
    metadata: json('metadata'),
    /** How many it was cut into. */
    passages: integer('passages').notNull(),
    createdAt: moment('created_at').notNull().defaultNow(),
    updatedAt: moment('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.collectionId, table.id] })],
)

/** Pieces of documents: what is found. */
export const passages = pgTable(
  'passages',
  {
    collectionId: uuid('collection_id').notNull(),
    documentId: text('document_id').notNull(),
    /** From 1. */
    n: integer('n').notNull(),
    text: text('text').notNull(),
    /** Its words in the collection's language. */
    words: tsvector('words').notNull(),
  },
  table => [
    primaryKey({ columns: [table.collectionId, table.documentId, table.n] }),
    // The collection as a list of one, of which GIN has an index without an extension: one index answers for both.
    index('passages_found').using('gin', sql`(ARRAY[collection_id])`, table.words),
  ],
)

/** Tasks that a person is to decide, or has decided. */
export const reviews = pgTable(
  'reviews',
  {
    taskId: uuid('task_id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    createdAt: moment('created_at').notNull(),
    /** allow | block; null: nobody has decided yet. */
    decision: text('decision'),
  },
  table => [
    check('reviews_decision', sql`decision IN ('allow', 'block')`),
    index('reviews_pending').on(table.taskId).where(sql`decision IS NULL`),
  ],
)

/** Every decision of a person, also those that a later one replaced. */
export const reviewDecisions = pgTable(
  'review_decisions',
  {
    id: bigserial('id', { mode: 'number' }).primaryKey(),
    taskId: uuid('task_id').notNull(),
    decision: text('decision').notNull(),
    note: text('note'),
    /** The key that it was made with. */
    decidedBy: uuid('decided_by').notNull(),
    decidedAt: moment('decided_at').notNull().defaultNow(),
  },
  table => [index('review_decisions_by_task').on(table.taskId, table.id)],
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
    promptVersion: text('prompt_version'),
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

/** Provider and model of every gate that was in use within days (`opened_at`): one that is missing in Redis has been lost. */
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

/** What clients uploaded, and what batches wrote. */
export const files = pgTable(
  'files',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** batch | batch_output */
    purpose: text('purpose').notNull(),
    filename: text('filename').notNull(),
    /** uploading | processed | deleting; only a processed one is shown */
    status: text('status').notNull(),
    /** postgres | s3: where its bytes are */
    storage: text('storage').notNull(),
    bytes: bigint('bytes', { mode: 'number' }).notNull().default(0),
    sha256: bytea('sha256'),
    createdAt: moment('created_at').notNull().defaultNow(),
    /** When something was last added: an upload whose process died is known by it. */
    touchedAt: moment('touched_at').notNull().defaultNow(),
    /** null: kept until it is deleted. */
    expiresAt: moment('expires_at'),
  },
  table => [
    index('files_by_key').on(table.apiKeyId, table.id),
    index('files_unfinished').on(table.touchedAt).where(sql`status <> 'processed'`),
    index('files_expiry').on(table.expiresAt).where(sql`status = 'processed' AND expires_at IS NOT NULL`),
  ],
)

/** The bytes of a file that is kept in Postgres, in pieces. */
export const fileChunks = pgTable(
  'file_chunks',
  { fileId: uuid('file_id').notNull(), seq: integer('seq').notNull(), data: bytea('data').notNull() },
  table => [primaryKey({ columns: [table.fileId, table.seq] })],
)

export const batches = pgTable(
  'batches',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** openai | native: how its lines are read and its results are written */
    surface: text('surface').notNull(),
    /** openai: such as /v1/chat/completions */
    endpoint: text('endpoint'),
    /** native: the kind of all lines */
    kind: text('kind'),
    /** validating | in_progress | finalizing | completed | failed | expired | cancelling | cancelled */
    status: text('status').notNull().default('validating'),
    inputFileId: uuid('input_file_id').notNull(),
    outputFileId: uuid('output_file_id'),
    errorFileId: uuid('error_file_id'),
    /** native: {format: jsonl | json | csv, columns?, template?} */
    mapping: json('mapping'),
    /** native: for all lines */
    options: json('options').notNull().default({}),
    priority: text('priority').notNull().default('normal'),
    metadata: json('metadata'),
    completionWindow: text('completion_window').notNull().default('24h'),
    outputExpiresSeconds: integer('output_expires_seconds'),
    webhookUrl: text('webhook_url'),
    /** W3C trace context of its submission, if it is traced. */
    traceparent: text('traceparent'),
    maxCostUsd: usd('max_cost_usd'),
    /** The most that its lines can cost, as validation found. */
    boundUsd: usd('bound_usd'),
    /** The model that all lines name, if they name the same. */
    model: text('model'),
    /** [{code, line, message, param}] of a batch that failed. */
    errors: json('errors'),
    /** Lines; the sums below are those of its chunks, written when it ends. */
    total: integer('total').notNull().default(0),
    succeeded: integer('succeeded').notNull().default(0),
    failed: integer('failed').notNull().default(0),
    cancelled: integer('cancelled').notNull().default(0),
    expired: integer('expired').notNull().default(0),
    inputTokens: bigint('input_tokens', { mode: 'number' }).notNull().default(0),
    outputTokens: bigint('output_tokens', { mode: 'number' }).notNull().default(0),
    costUsd: usd('cost_usd').notNull().default('0'),
    createdAt: moment('created_at').notNull().defaultNow(),
    inProgressAt: moment('in_progress_at'),
    finalizingAt: moment('finalizing_at'),
    completedAt: moment('completed_at'),
    failedAt: moment('failed_at'),
    expiredAt: moment('expired_at'),
    cancellingAt: moment('cancelling_at'),
    cancelledAt: moment('cancelled_at'),
    expiresAt: moment('expires_at').notNull(),
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

/** Work on a batch, one job of the queue each: reading its input, a range of its lines, writing its output. */
export const batchChunks = pgTable(
  'batch_chunks',
  {
    id: uuid('id').primaryKey(),
    batchId: uuid('batch_id').notNull(),
    /** validate | run | finalize */
    step: text('step').notNull(),
    /** run: the lines, both included */
    firstLine: integer('first_line').notNull().default(0),
    lastLine: integer('last_line').notNull().default(0),
    /** waiting | running | done */
    status: text('status').notNull().default('waiting'),
    /** Counts dispatches, as a task's does. */
    epoch: integer('epoch').notNull().default(0),
    claims: smallint('claims').notNull().default(0),
    workerId: uuid('worker_id'),
    /** null: it waits for its batch's turn. */
    dispatchedAt: moment('dispatched_at'),
    /** What became of its lines, and what they used and cost; written when it is done. */
    succeeded: integer('succeeded').notNull().default(0),
    failed: integer('failed').notNull().default(0),
    cancelled: integer('cancelled').notNull().default(0),
    expired: integer('expired').notNull().default(0),
    inputTokens: bigint('input_tokens', { mode: 'number' }).notNull().default(0),
    outputTokens: bigint('output_tokens', { mode: 'number' }).notNull().default(0),
    costUsd: usd('cost_usd').notNull().default('0'),
    startedAt: moment('started_at'),
    finishedAt: moment('finished_at'),
  },
  table => [
    uniqueIndex('batch_chunks_lines').on(table.batchId, table.step, table.firstLine),
    index('batch_chunks_waiting').on(table.batchId, table.firstLine).where(sql`status = 'waiting'`),
    index('batch_chunks_running').on(table.workerId).where(sql`status = 'running'`),
  ],
)

/** What is to be told to somebody's server, until it said that it heard. */
export const webhookDeliveries = pgTable(
  'webhook_deliveries',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** Such as batch.completed, task.succeeded. */
    type: text('type').notNull(),
    /** The task or batch. */
    subjectId: uuid('subject_id').notNull(),
    url: text('url').notNull(),
    /** pending | delivered | failed */
    status: text('status').notNull().default('pending'),
    attempts: smallint('attempts').notNull().default(0),
    /** When it is tried next; while it is being tried, when another may. */
    nextAt: moment('next_at').notNull().defaultNow(),
    /** HTTP status of the last answer; null: there was none. */
    lastStatus: smallint('last_status'),
    lastError: text('last_error'),
    createdAt: moment('created_at').notNull().defaultNow(),
    deliveredAt: moment('delivered_at'),
  },
  table => [
    index('webhook_deliveries_due').on(table.nextAt).where(sql`status = 'pending'`),
    index('webhook_deliveries_by_key').on(table.apiKeyId, table.id),
    index('webhook_deliveries_by_subject').on(table.subjectId),
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
    /** The task that was made of it, or the batch. */
    taskId: uuid('task_id').notNull(),
    /** SHA-256 of what was asked for. */
    requestHash: bytea('request_hash').notNull(),
    expiresAt: moment('expires_at').notNull(),
  },
  table => [primaryKey({ columns: [table.apiKeyId, table.key] }), index('idempotency_keys_expiry').on(table.expiresAt)],
)

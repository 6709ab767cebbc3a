import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach } from 'vitest'
import type { Settlement } from '#shared/db/attempts.ts'
import type { Reservation } from '#shared/db/claims/admission.ts'
import { type Db, openDb } from '#shared/db/pool.ts'
import type { NewTask } from '#shared/db/tasks/new-task.ts'
import type { WorkerState } from '#shared/db/workers.ts'
import { newId } from '#shared/ids.ts'
import { createLogger } from '#shared/process/logger.ts'
import { createTestDatabase } from './database.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

export const connect = (url: string, max = 4): Db =>
  openDb({ url, max, application: 'test', logger, connectMs: 60_000 })

/** Runs SQL of a test. */
export const ask = <Row extends Record<string, unknown>>(
  db: Db,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> =>
  // Unnamed, so that it is not prepared.
  db.query<Row>({ name: '', text }, values)

export type FileDatabase = {
  readonly url: string
  /** Pools; each stands for a process. */
  readonly dbs: [Db, ...Db[]]
  readonly clock: Clock
}

/** One database for the tests of a file. It is emptied before each test, and the tests control its time. */
export function fileDatabase(pools = 1): FileDatabase {
  let database: Awaited<ReturnType<typeof createTestDatabase>>
  let dbs: [Db, ...Db[]]
  let clock: Clock
  beforeAll(async () => {
    database = await createTestDatabase()
    const setup = connect(database.url, 1)
    await controlClock(setup)
    await setup.close()
    dbs = Array.from({ length: pools }, () => connect(database.url)) as [Db, ...Db[]]
    clock = clockOf(dbs[0])
  })
  beforeEach(async () => {
    await ask(
      dbs[0],
      'TRUNCATE api_keys, attempts, batch_chunks, batches, budget_windows, budgets, cost_rollups, idempotency_keys, tasks, webhook_deliveries, workers',
    )
    await clock.reset()
  })
  afterAll(async () => {
    await Promise.all(dbs.map(db => db.close()))
    await database.drop()
  })
  return {
    get url() {
      return database.url
    },
    get dbs() {
      return dbs
    },
    get clock() {
      return clock
    },
  }
}

export type Clock = {
  /** Stops the clock until the next test: only `advance` moves it. */
  stop(): Promise<unknown>
  advance(seconds: number): Promise<unknown>
  /** Sets the start of Postgres to `seconds` ago. */
  startedAgo(seconds: number): Promise<unknown>
  /** Restores the real time, and sets the start of Postgres to an hour ago. */
  reset(): Promise<unknown>
}

/**
 * Replaces `now()` and the start time of Postgres in one database by functions that tests control. Call it before the other
 * pools connect, because a connection reads the search path once.
 */
async function controlClock(db: Db): Promise<void> {
  for (const statement of [
    'CREATE SCHEMA testing',
    'CREATE TABLE testing.clock (stopped timestamptz, passed interval NOT NULL, started timestamptz NOT NULL)',
    `INSERT INTO testing.clock VALUES (NULL, '0', pg_catalog.now() - interval '1 hour')`,
    `CREATE FUNCTION testing.now() RETURNS timestamptz LANGUAGE sql STABLE
      AS 'SELECT coalesce(stopped, pg_catalog.now()) + passed FROM testing.clock'`,
    `CREATE FUNCTION testing.pg_postmaster_start_time() RETURNS timestamptz LANGUAGE sql STABLE
      AS 'SELECT started FROM testing.clock'`,
    'ALTER TABLE workers ALTER COLUMN beat_at SET DEFAULT testing.now(), ALTER COLUMN started_at SET DEFAULT testing.now()',
    // `testing` before pg_catalog, so that an unqualified now() is the function above.
    `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = testing, pg_catalog, public', current_database()); END $$`,
  ]) {
    await ask(db, statement)
  }
}

const clockOf = (db: Db): Clock => ({
  stop: () => ask(db, 'UPDATE testing.clock SET stopped = pg_catalog.now()'),
  advance: seconds => ask(db, 'UPDATE testing.clock SET passed = passed + make_interval(secs => $1)', [seconds]),
  startedAgo: seconds =>
    ask(db, 'UPDATE testing.clock SET started = testing.now() - make_interval(secs => $1)', [seconds]),
  reset: () =>
    ask(db, `UPDATE testing.clock SET stopped = NULL, passed = '0', started = pg_catalog.now() - interval '1 hour'`),
})

export const newTask = (more: Partial<NewTask> = {}): NewTask => ({
  id: newId(),
  kind: 'generate',
  queue: 'default',
  priority: 'normal',
  apiKeyId: randomUUID(),
  input: { prompt: 'Hi' },
  options: {},
  metadata: null,
  deadlineSeconds: 600,
  dispatched: true,
  cacheKey: null,
  webhookUrl: null,
  exposure: null,
  traceparent: null,
  answer: null,
  idempotency: null,
  ...more,
})

export const newBeat = (more: Partial<WorkerState> = {}): WorkerState => ({
  id: newId(),
  pid: 1,
  host: 'here',
  queues: ['default'],
  concurrency: 10,
  active: 0,
  metricsPort: null,
  providers: {},
  fetchedAgoMs: null,
  ...more,
})

export const newReservation = (more: Partial<Reservation> = {}): Reservation => ({
  provider: 'anthropic',
  model: 'claude',
  kind: 'generate',
  apiKeyId: randomUUID(),
  batchId: null,
  usd: '0.01',
  priceVersion: 'a version',
  promptVersion: '1',
  inputTokens: 100,
  outputTokens: 100,
  ...more,
})

export const settlement = (n: number, outcome: string, more: Partial<Settlement> = {}): Settlement => ({
  n,
  outcome,
  usage: null,
  costUsd: null,
  ...more,
})

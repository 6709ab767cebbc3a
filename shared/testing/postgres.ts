import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach } from 'vitest'
import type { Settlement } from '#shared/db/attempts.ts'
import type { Need } from '#shared/db/claims.ts'
import type { NewTask } from '#shared/db/insert.ts'
import { type Db, openDb } from '#shared/db/pool.ts'
import type { WorkerBeat } from '#shared/db/workers.ts'
import { newId } from '#shared/ids.ts'
import { createLogger } from '#shared/logger.ts'
import { createTestDatabase } from './database.ts'

const logger = createLogger({ level: 'silent', name: 'test' })

export const connect = (url: string, max = 4): Db =>
  openDb({ url, max, application: 'test', logger, connectMs: 60_000 })

/** What a test wants to know or to set without the product's own statements. */
export const ask = <Row extends Record<string, unknown>>(
  db: Db,
  text: string,
  values: unknown[] = [],
): Promise<Row[]> =>
  // Unnamed: statements of tests are not worth preparing.
  db.query<Row>({ name: '', text }, values)

export type FileDatabase = {
  readonly url: string
  /** As if each belonged to a process. */
  readonly dbs: [Db, ...Db[]]
  readonly clock: Clock
}

/** One database for the tests of a file, empty before each of them, in which the tests set the time. */
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
  /** From now on no time passes but by `advance`, until the next test. */
  stop(): Promise<unknown>
  /** Lets this many seconds pass. */
  advance(seconds: number): Promise<unknown>
  /** Says how long ago Postgres was started. */
  startedAgo(seconds: number): Promise<unknown>
  /** The right time, and a Postgres that has been up for an hour. */
  reset(): Promise<unknown>
}

/**
 * Puts the time of one database into the test's hands: its `now()` and the start of its Postgres. Must come before the first statement of the other pools, since connections read the search path once.
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
    // Whatever is named here stands before what Postgres would otherwise look at first.
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

export const newBeat = (more: Partial<WorkerBeat> = {}): WorkerBeat => ({
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

/** What a call of a task may cost, and whose it is. */
export const newNeed = (more: Partial<Need> = {}): Need => ({
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

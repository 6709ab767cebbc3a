import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { ConfigError } from '#shared/settings/config-error.ts'
import { LEGACY_LOCKS, LOCK_NAMESPACE, LOCKS } from './locks.ts'

const POLL_MS = 250
/**
 * A statement that waits for a table lock blocks all later statements on that table. It therefore gives up soon, lets them pass and
 * tries again.
 */
const LOCK_TIMEOUT_MS = 2000
const PAUSE_MS = 1000
const MAX_TRIES = 60

export type MigrateOptions = {
  /** Folder of the migrations and their journal. */
  folder?: string
  /** Time a statement waits for a lock. */
  lockTimeoutMs?: number
  pauseMs?: number
}

/** `when`: milliseconds since the epoch, the id of the migration in the database. */
type Migration = { tag: string; when: number; hash: string; statements: string[] }

/** The migrations in order, as written by drizzle-kit (`npm run generate`). */
export function readMigrations(folder = new URL('../../drizzle', import.meta.url).pathname): Migration[] {
  const journal = JSON.parse(readFileSync(join(folder, 'meta/_journal.json'), 'utf8')) as {
    entries: { tag: string; when: number }[]
  }
  return journal.entries.map(({ tag, when }) => {
    const text = readFileSync(join(folder, `${tag}.sql`), 'utf8')
    const hash = createHash('sha256').update(text).digest('hex')
    return { tag, when, hash, statements: text.split('--> statement-breakpoint') }
  })
}

/**
 * Migrates the database to the newest schema while other processes use it. Safe to call from many processes: one migrates, the others
 * wait.
 * @param databaseUrl a role that may create tables
 * @throws ConfigError if the database has migrations that this code does not know
 */
export async function migrate(databaseUrl: string, options: MigrateOptions = {}): Promise<void> {
  const migrations = readMigrations(options.folder)
  const client = connectionTo(databaseUrl)
  // A second connection holds the lock in a transaction, because a pooler in transaction mode keeps no session locks.
  const holder = connectionTo(databaseUrl)
  try {
    await holder.connect()
    await acquire(holder)
    await client.connect()
    for (const migration of await missing(client, migrations)) {
      if (migration.statements.some(isConcurrent)) await applyConcurrently(client, migration)
      else await apply(client, migration, options)
    }
    // Fails if the lock was lost and another process may have migrated too. Each migration was applied as a whole.
    await holder.query('COMMIT')
  } finally {
    await Promise.all([client.end(), holder.end()])
  }
}

function connectionTo(connectionString: string): pg.Client {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 10_000 })
  // Without a listener an error between two statements would end the process. The next statement reports it.
  client.on('error', () => {})
  return client
}

/**
 * Polls for the lock. A process waiting in pg_advisory_xact_lock() would hold a snapshot, and CREATE INDEX CONCURRENTLY of the
 * migrating process would wait for that snapshot: a deadlock.
 */
async function acquire(client: pg.Client): Promise<void> {
  // The connection is idle while the migrations run.
  await client.query('BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0')
  const acquireOne = async (...lock: number[]) => {
    // No parameters: the portal of a statement with parameters keeps its snapshot until the next statement.
    const text = `SELECT pg_try_advisory_xact_lock(${lock.join(', ')}) AS got`
    while (!(await client.query<{ got: boolean }>(text)).rows[0]!.got) await delay(POLL_MS)
  }
  await acquireOne(LEGACY_LOCKS.migrate)
  await acquireOne(LOCK_NAMESPACE, LOCKS.migrate)
}

/** Drizzle's own table, so that its tools also see the applied migrations. */
const TABLE = `CREATE SCHEMA IF NOT EXISTS drizzle;
  CREATE TABLE IF NOT EXISTS drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`
const RECORD = 'INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ($1, $2)'

async function missing(client: pg.Client, migrations: Migration[]): Promise<Migration[]> {
  const exists = await client.query<{ exists: boolean }>(
    `SELECT to_regclass('drizzle.__drizzle_migrations') IS NOT NULL AS exists`,
  )
  // Only if missing: the role may be allowed to use the schema but not to create it.
  if (!exists.rows[0]!.exists) await client.query(TABLE)
  const { rows } = await client.query<{ when: string }>(
    'SELECT created_at::text AS when FROM drizzle.__drizzle_migrations ORDER BY created_at',
  )
  const applied = new Set(rows.map(row => Number(row.when)))
  const unknown = [...applied].filter(when => !migrations.some(one => one.when === when))
  if (unknown.length > 0) throw new ConfigError(tooNew(unknown))
  return migrations.filter(({ when }) => !applied.has(when))
}

const tooNew = (unknown: number[]) =>
  `DATABASE_URL: the database is newer than this version: ${unknown.length} of its migrations are unknown here, the latest made at ${new Date(unknown.at(-1)!).toISOString()}. Migrate with the version that was here before, or a newer one; the version just before that one still serves from it`

/** Applies a migration in one transaction, with its row in the table. */
async function apply(client: pg.Client, migration: Migration, options: MigrateOptions): Promise<void> {
  const { lockTimeoutMs = LOCK_TIMEOUT_MS, pauseMs = PAUSE_MS } = options
  for (let tries = 1; ; tries++) {
    try {
      await client.query('BEGIN')
      await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}`)
      for (const statement of migration.statements) await client.query(statement)
      await client.query(RECORD, [migration.hash, migration.when])
      await client.query('COMMIT')
      return
    } catch (error) {
      await client.query('ROLLBACK').catch(() => {})
      // lock_not_available
      if ((error as { code?: string }).code !== '55P03') throw error
      if (tries === MAX_TRIES)
        throw new ConfigError(
          `DATABASE_URL: ${migration.tag} did not get its locks in ${MAX_TRIES} tries: a long transaction holds a table that it changes (see pg_stat_activity); nothing was changed`,
        )
      await delay(pauseMs)
    }
  }
}

/** CONCURRENTLY does not block writes to a large table, and cannot run in a transaction. */
const CONCURRENT = /^\s*(?:--.*\n\s*)*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS\s+"?(\w+)"?/i
const isConcurrent = (statement: string) => /^\s*(?:--.*\n\s*)*(?:CREATE|DROP)\s.*\sCONCURRENTLY\s/i.test(statement)

/** Applies each statement by itself. An interrupted statement is repeated. */
async function applyConcurrently(client: pg.Client, migration: Migration): Promise<void> {
  for (const statement of migration.statements) {
    const index = CONCURRENT.exec(statement)?.[1]
    // An interrupted attempt leaves an invalid index, which IF NOT EXISTS would accept.
    if (index && (await isInvalid(client, index))) await client.query(`DROP INDEX CONCURRENTLY "${index}"`)
    await client.query(statement)
  }
  await client.query(RECORD, [migration.hash, migration.when])
}

async function isInvalid(client: pg.Client, index: string): Promise<boolean> {
  const { rows } = await client.query('SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid', [
    `"${index}"`,
  ])
  return rows.length > 0
}

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { ConfigError } from '#shared/config.ts'
import { LOCKS } from './locks.ts'

const LOOK_AGAIN_MS = 250
/**
 * A statement that waits for its table makes everybody who comes after it wait behind it: it gives up soon, lets them pass, and
 * tries again.
 */
const LOCK_TIMEOUT_MS = 2000
const PAUSE_MS = 1000
const MOST_TRIES = 60

export type MigrateOptions = {
  /** Where the migrations and their journal are. */
  folder?: string
  /** Of one lock that a statement waits for. */
  lockTimeoutMs?: number
  pauseMs?: number
}

/** `when`: ms since the epoch, by which a database knows it. */
type Migration = { tag: string; when: number; hash: string; statements: string[] }

/** In their order. Written by drizzle-kit (`npm run generate`). */
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
 * Brings the database to the newest schema, while other processes serve from it. Safe to call from many processes at once: one
 * migrates, the others wait for it.
 * @param databaseUrl a role that may create tables
 * @throws ConfigError if the database has migrations that this code does not know
 */
export async function migrate(databaseUrl: string, options: MigrateOptions = {}): Promise<void> {
  const migrations = readMigrations(options.folder)
  const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 })
  // Between two statements nobody else hears that Postgres has closed the connection; the next statement says so.
  client.on('error', () => {})
  await client.connect()
  try {
    await acquire(client)
    for (const migration of await missing(client, migrations)) {
      if (migration.statements.some(isConcurrent)) await applyConcurrently(client, migration)
      else await apply(client, migration, options)
    }
  } finally {
    await client.end()
  }
}

/**
 * By looking again and again: whoever waits inside pg_advisory_lock() holds a snapshot, for whose end the other one's CREATE INDEX
 * CONCURRENTLY would wait, until Postgres calls it a deadlock and ends one of them.
 */
async function acquire(client: pg.Client): Promise<void> {
  const attempt = async () =>
    (await client.query<{ got: boolean }>('SELECT pg_try_advisory_lock($1) AS got', [LOCKS.migrate])).rows[0]!.got
  while (!(await attempt())) await delay(LOOK_AGAIN_MS)
}

/** The table is drizzle's own, so that its tools know what is applied, too. */
const TABLE = `CREATE SCHEMA IF NOT EXISTS drizzle;
  CREATE TABLE IF NOT EXISTS drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)`
const WRITE_DOWN = 'INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ($1, $2)'

async function missing(client: pg.Client, migrations: Migration[]): Promise<Migration[]> {
  const there = await client.query<{ there: boolean }>(
    `SELECT to_regclass('drizzle.__drizzle_migrations') IS NOT NULL AS there`,
  )
  // Only then: a role may use what is there and yet not create a schema.
  if (!there.rows[0]!.there) await client.query(TABLE)
  const { rows } = await client.query<{ when: string }>(
    'SELECT created_at::text AS when FROM drizzle.__drizzle_migrations ORDER BY created_at',
  )
  const applied = new Set(rows.map(row => Number(row.when)))
  const strangers = [...applied].filter(when => !migrations.some(one => one.when === when))
  if (strangers.length > 0) throw new ConfigError(tooNew(strangers))
  return migrations.filter(({ when }) => !applied.has(when))
}

const tooNew = (strangers: number[]) =>
  `DATABASE_URL: the database is newer than this version: ${strangers.length} of its migrations are unknown here, the latest made at ${new Date(strangers.at(-1)!).toISOString()}. Migrate with the version that was here before, or a newer one; the version just before that one still serves from it`

/** Whole or not at all, with its entry in the table. */
async function apply(client: pg.Client, migration: Migration, options: MigrateOptions): Promise<void> {
  const { lockTimeoutMs = LOCK_TIMEOUT_MS, pauseMs = PAUSE_MS } = options
  for (let tries = 1; ; tries++) {
    try {
      await client.query('BEGIN')
      await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}`)
      for (const statement of migration.statements) await client.query(statement)
      await client.query(WRITE_DOWN, [migration.hash, migration.when])
      await client.query('COMMIT')
      return
    } catch (error) {
      await client.query('ROLLBACK').catch(() => {})
      // lock_not_available
      if ((error as { code?: string }).code !== '55P03') throw error
      if (tries === MOST_TRIES)
        throw new ConfigError(
          `DATABASE_URL: ${migration.tag} did not get its locks in ${MOST_TRIES} tries: a long transaction holds a table that it changes (see pg_stat_activity); nothing was changed`,
        )
      await delay(pauseMs)
    }
  }
}

/** The only sort of statement that cannot be in a transaction, and the only one that lets a big table be written meanwhile. */
const CONCURRENT = /^\s*(?:--.*\n\s*)*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS\s+"?(\w+)"?/i
const isConcurrent = (statement: string) => /^\s*(?:--.*\n\s*)*(?:CREATE|DROP)\s.*\sCONCURRENTLY\s/i.test(statement)

/** Each statement by itself; one that was interrupted is done again. */
async function applyConcurrently(client: pg.Client, migration: Migration): Promise<void> {
  for (const statement of migration.statements) {
    const index = CONCURRENT.exec(statement)?.[1]
    // What is left of an attempt that was interrupted would pass for the index.
    if (index && (await isInvalid(client, index))) await client.query(`DROP INDEX CONCURRENTLY "${index}"`)
    await client.query(statement)
  }
  await client.query(WRITE_DOWN, [migration.hash, migration.when])
}

async function isInvalid(client: pg.Client, index: string): Promise<boolean> {
  const { rows } = await client.query('SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid', [
    `"${index}"`,
  ])
  return rows.length > 0
}

import { readMigrationFiles } from 'drizzle-orm/migrator'
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'
import type { Db } from './pool.ts'

const migrationsFolder = new URL('../../drizzle', import.meta.url).pathname
/** Any constant: whoever holds it migrates, the others wait. */
const MIGRATION_LOCK = 7_205_418_366

/**
 * Brings the database to the newest schema. Safe to call from many processes at once.
 * @param databaseUrl a role that may create tables
 */
export async function migrate(databaseUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl, connectionTimeoutMillis: 10_000 })
  await client.connect()
  try {
    await client.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK])
    await applyMigrations(drizzle(client), { migrationsFolder })
  } finally {
    await client.end()
  }
}

let newestMigration: number | null = null

/** undefined_table, invalid_schema_name: nothing was ever migrated here. */
const NOTHING_THERE = ['42P01', '3F000']

/** Whether the database has every migration that this code needs. */
export async function schemaIsCurrent(db: Db): Promise<boolean> {
  newestMigration ??= Math.max(...readMigrationFiles({ migrationsFolder }).map(file => file.folderMillis))
  try {
    const rows = await db.query<{ newest: string | null }>({
      name: 'schema_version',
      text: 'SELECT max(created_at)::text AS newest FROM drizzle.__drizzle_migrations',
    })
    return Number(rows[0]?.newest ?? 0) >= newestMigration
  } catch (error) {
    if (NOTHING_THERE.includes((error as { code?: string }).code ?? '')) return false
    throw error
  }
}

import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate as applyMigrations } from 'drizzle-orm/node-postgres/migrator'
import pg from 'pg'

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

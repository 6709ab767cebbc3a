import journal from '../../drizzle/meta/_journal.json' with { type: 'json' }
import type { Db } from './pool.ts'

// Not in migrate.ts, whose imports take 140 MB of memory.

const newestMigration = Math.max(...journal.entries.map(entry => entry.when))

/** undefined_table and invalid_schema_name: the database was never migrated. */
const NEVER_MIGRATED = ['42P01', '3F000']

/** Whether the database has every migration that this code needs. */
export async function schemaIsCurrent(db: Db): Promise<boolean> {
  try {
    const rows = await db.query<{ newest: string | null }>({
      name: 'schema_version',
      text: 'SELECT max(created_at)::text AS newest FROM drizzle.__drizzle_migrations',
    })
    return Number(rows[0]?.newest ?? 0) >= newestMigration
  } catch (error) {
    if (NEVER_MIGRATED.includes((error as { code?: string }).code ?? '')) return false
    throw error
  }
}

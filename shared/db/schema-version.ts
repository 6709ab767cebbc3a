import journal from '../../drizzle/meta/_journal.json' with { type: 'json' }
import type { Db } from './pool.ts'

// Apart from migrate.ts, which needs drizzle: that takes 140 MB of memory just to be imported.

const newestMigration = Math.max(...journal.entries.map(entry => entry.when))

/** undefined_table, invalid_schema_name: nothing was ever migrated here. */
const NOTHING_THERE = ['42P01', '3F000']

/** Whether the database has every migration that this code needs. */
export async function schemaIsCurrent(db: Db): Promise<boolean> {
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

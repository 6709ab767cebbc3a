import { LOCK_NAMESPACE, LOCKS } from './locks.ts'
import type { Db } from './pool.ts'

/** `definition`: as the API received it; null: deleted. The row stays, so that other processes see the change by its version. */
export type ProviderRow = { name: string; definition: unknown; version: number; updated_at: Date }

export const readProviderDefinitions = (db: Db): Promise<ProviderRow[]> =>
  db.query<ProviderRow>({
    name: 'providers_read',
    text: 'SELECT name, definition, version::float8 AS version, updated_at FROM providers ORDER BY name',
  })

/** The lock serialises writers, so that versions are committed in order. */
const writeStatement = {
  name: 'providers_write',
  text: `WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(${LOCK_NAMESPACE}, ${LOCKS.providers}))
    INSERT INTO providers AS p (name, definition, version, updated_at)
    SELECT $1, $2::json, nextval('providers_version_seq'), now() FROM turn
    ON CONFLICT (name) DO UPDATE SET definition = excluded.definition, version = excluded.version, updated_at = now()`,
}

/** @param definition null: deletes it */
export const writeProviderDefinition = async (db: Db, name: string, definition: object | null): Promise<void> =>
  void (await db.query(writeStatement, [name, definition === null ? null : JSON.stringify(definition)]))

import type { LimitName } from '#shared/gate/types.ts'
import { defineColumns } from './columns.ts'
import { LEGACY_LOCKS, LOCK_NAMESPACE, LOCKS } from './locks.ts'
import type { Db } from './pool.ts'

/** null: unlimited. */
export type Limits = Record<LimitName, number | null>
export const NO_LIMITS: Limits = { rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }

/** In place of a model: all models without a row of their own. */
export const ALL_MODELS = ''
/** In place of a model: the limits from the settings, for models that no other row covers. */
export const SETTINGS = '*'
/** In place of a model: the limits from the settings for this model. */
export const settingsOf = (model: string): string => `${SETTINGS}${model}`

export type LimitsRow = {
  provider: string
  model: string
  /** null: deleted. The row stays, because the gates see the change by its version. */
  limits: Limits | null
  /** Grows with every write to the table. */
  version: number
}

export const readLimits = (db: Db): Promise<LimitsRow[]> =>
  db.query<LimitsRow>({
    name: 'limits_read',
    text: 'SELECT provider, model, limits, version::float8 AS version FROM provider_limits ORDER BY provider, model',
  })

const columns = defineColumns<Omit<LimitsRow, 'version'>>([
  ['provider', 'text', row => row.provider],
  ['model', 'text', row => row.model],
  ['limits', 'json', row => JSON.stringify(row.limits)],
])

/** The lock serialises writers, so that versions are committed in order. The same limits again change nothing. */
const writeStatement = {
  name: 'limits_write',
  text: `WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(${LEGACY_LOCKS.limits}), pg_advisory_xact_lock(${LOCK_NAMESPACE}, ${LOCKS.limits}))
    INSERT INTO provider_limits AS p (provider, model, limits, version, updated_at)
    SELECT i.provider, i.model, i.limits, nextval('provider_limits_version_seq'), now()
    FROM turn CROSS JOIN ${columns.unnest('i', 1)}
    ORDER BY i.provider, i.model
    ON CONFLICT (provider, model) DO UPDATE SET limits = excluded.limits, version = excluded.version, updated_at = now()
      WHERE p.limits::jsonb <> excluded.limits::jsonb`,
}

const write = async (db: Db, rows: Omit<LimitsRow, 'version'>[]): Promise<void> =>
  void (await db.query(writeStatement, columns.values(rows)))

/** @param model a model, or ALL_MODELS */
export const putLimits = (db: Db, provider: string, model: string, limits: Limits): Promise<void> =>
  write(db, [{ provider, model, limits }])

/** Deletes limits. Those of the provider apply again, then those of the settings. */
export const deleteLimits = (db: Db, provider: string, model: string): Promise<void> =>
  write(db, [{ provider, model, limits: null }])

/** `model`: SETTINGS or `settingsOf` a model. `limits`: null deletes them. */
export type DeclaredLimits = Omit<LimitsRow, 'version'>

/** Writes the limits from the settings of a process. The process that declared last wins, for all processes. */
export const declareLimits = (db: Db, declared: DeclaredLimits[]): Promise<void> => write(db, declared)

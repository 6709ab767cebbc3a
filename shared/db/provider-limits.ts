import type { LimitName } from '#shared/gate/types.ts'
import { LOCKS } from './locks.ts'
import type { Db } from './pool.ts'

/** null: unlimited. */
export type Limits = Record<LimitName, number | null>
export const NO_LIMITS: Limits = { rpm: null, tpm: null, itpm: null, otpm: null, concurrency: null }

/** In the place of a model: those that have no row of their own. */
export const ALL_MODELS = ''
/** In the place of a model: what the settings say, for those that neither row is there for. */
export const SETTINGS = '*'

export type LimitsRow = {
  provider: string
  model: string
  /** null: taken away. The row stays, so that its version tells the gates of that. */
  limits: Limits | null
  /** Greater than that of any row that was written before. */
  version: number
}

export const readLimits = (db: Db): Promise<LimitsRow[]> =>
  db.query<LimitsRow>({
    name: 'limits_read',
    text: 'SELECT provider, model, limits, version::float8 AS version FROM provider_limits ORDER BY provider, model',
  })

/** One at a time: a version that was drawn first must not be committed second. */
const writeStatement = {
  name: 'limits_write',
  text: `WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(${LOCKS.limits}))
    INSERT INTO provider_limits AS p (provider, model, limits, version, updated_at)
    SELECT i.provider, i.model, i.limits, nextval('provider_limits_version_seq'), now()
    FROM turn CROSS JOIN unnest($1::text[], $2::text[], $3::json[]) AS i(provider, model, limits)
    ORDER BY i.provider, i.model
    ON CONFLICT (provider, model) DO UPDATE SET limits = excluded.limits, version = excluded.version, updated_at = now()
      WHERE p.limits::jsonb <> excluded.limits::jsonb`,
}

/** The same limits again change nothing. */
const write = async (db: Db, rows: Omit<LimitsRow, 'version'>[]): Promise<void> =>
  void (await db.query(writeStatement, [
    rows.map(row => row.provider),
    rows.map(row => row.model),
    rows.map(row => JSON.stringify(row.limits)),
  ]))

/** @param model ALL_MODELS for those that have no limits of their own */
export const putLimits = (db: Db, provider: string, model: string, limits: Limits): Promise<void> =>
  write(db, [{ provider, model, limits }])

/** What stood behind them holds again: those of the provider, then those of the settings. */
export const deleteLimits = (db: Db, provider: string, model: string): Promise<void> =>
  write(db, [{ provider, model, limits: null }])

/** Writes down what a process's settings say: the last one to start wins, for the whole fleet. */
export const declareLimits = (db: Db, settings: { provider: string; limits: Limits }[]): Promise<void> =>
  write(
    db,
    settings.map(one => ({ ...one, model: SETTINGS })),
  )

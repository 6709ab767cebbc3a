import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import type { Db } from './pool.ts'

/** The shape of a `Variant` is declared in shared/experiments/definition.ts. */
export type ExperimentRow<Variant> = {
  name: string
  kind: string
  variants: Variant[]
  created_at: Date
  updated_at: Date
}

const COLUMNS = 'name, kind, variants, created_at, updated_at'

const putStatement = {
  name: 'experiments_put',
  text: `WITH updated AS (
      UPDATE experiments SET variants = $3, updated_at = now() WHERE name = $1 AND kind = $2 RETURNING ${COLUMNS}
    ), inserted AS (
      INSERT INTO experiments (name, kind, variants) SELECT $1, $2, $3 WHERE NOT EXISTS (SELECT FROM updated)
      ON CONFLICT DO NOTHING RETURNING ${COLUMNS}
    )
    SELECT * FROM updated UNION ALL SELECT * FROM inserted`,
}

/** Creates or replaces an experiment. @returns null: it has another kind, or its kind has another experiment */
export const putExperiment = async <Variant>(
  db: Db,
  { name, kind, variants }: Pick<ExperimentRow<Variant>, 'name' | 'kind' | 'variants'>,
): Promise<ExperimentRow<Variant> | null> =>
  (await db.query<ExperimentRow<Variant>>(putStatement, [name, kind, JSON.stringify(variants)]))[0] ?? null

export const readExperiment = async <Variant>(db: Db, name: string): Promise<ExperimentRow<Variant> | null> =>
  (
    await db.query<ExperimentRow<Variant>>(
      { name: 'experiments_read', text: `SELECT ${COLUMNS} FROM experiments WHERE name = $1` },
      [name],
    )
  )[0] ?? null

/** At most one per kind. */
export const listExperiments = <Variant>(db: Db): Promise<ExperimentRow<Variant>[]> =>
  db.query<ExperimentRow<Variant>>({
    name: 'experiments_list',
    text: `SELECT ${COLUMNS} FROM experiments ORDER BY name`,
  })

/** Deletes an experiment and its conversions, not its tasks. @returns the deleted experiment; null: no such experiment */
export const deleteExperiment = async <Variant>(db: Db, name: string): Promise<ExperimentRow<Variant> | null> =>
  (
    await db.query<ExperimentRow<Variant>>(
      {
        name: 'experiments_delete',
        text: `WITH gone AS (DELETE FROM experiments WHERE name = $1 RETURNING ${COLUMNS}),
            c AS (DELETE FROM conversions WHERE experiment IN (SELECT name FROM gone))
          SELECT * FROM gone`,
      },
      [name],
    )
  )[0] ?? null

/** The user that converted, by task or directly. */
export type ConversionTarget = { by: 'task'; taskId: string } | { by: 'user'; userHash: Buffer }
/** `variant`: the user's first variant; null: the user is not in the experiment. `counted` false: a repetition. */
export type Conversion = { variant: string | null; counted: boolean }

/**
 * Tasks and conversions older than the experiment belong to a deleted one of the same name. Such a conversion, written during the
 * deletion, is replaced. A user stays in the first variant even if changed weights assigned another one later: otherwise frequent
 * users would count twice.
 */
const convertStatement = (by: ConversionTarget['by']) => ({
  name: `experiments_convert_${by}`,
  text: `WITH target AS (
      SELECT e.name, e.created_at, ${by === 'user' ? '$2::bytea' : 't.user_hash'} AS user_hash FROM experiments e
      ${by === 'user' ? '' : 'JOIN tasks t ON t.id = $2 AND t.experiment = e.name AND t.created_at >= e.created_at'}
      WHERE e.name = $1
    ), exposed AS MATERIALIZED (
      SELECT t.variant, t.user_hash, target.created_at FROM target
        JOIN tasks t ON t.experiment = target.name AND t.user_hash = target.user_hash AND t.created_at >= target.created_at
      ORDER BY t.id LIMIT 1
    ), counted AS (
      INSERT INTO conversions AS c (experiment, user_key, variant, task_id, value)
      SELECT $1, user_hash, variant, ${by === 'task' ? '$2' : 'NULL'}, $3::numeric FROM exposed
      ON CONFLICT (experiment, user_key) DO UPDATE
        SET variant = excluded.variant, task_id = excluded.task_id, value = excluded.value, at = excluded.at
        WHERE c.at < (SELECT created_at FROM exposed)
      RETURNING variant
    )
    SELECT (SELECT variant FROM exposed) AS variant, EXISTS (SELECT FROM counted) AS counted`,
})
const CONVERT = { task: convertStatement('task'), user: convertStatement('user') }

/** Counts a conversion once per user. Idempotent. */
export async function recordConversion(
  db: Db,
  { experiment, target, value }: { experiment: string; target: ConversionTarget; value: number | null },
): Promise<Conversion> {
  const rows = await db.query<Conversion>(CONVERT[target.by], [
    experiment,
    target.by === 'task' ? target.taskId : target.userHash,
    value,
  ])
  return rows[0]!
}

/**
 * Statistics of a variant. Tasks count in their variant, users in their first one, because for a user with two variants it is unknown
 * which of them led to a conversion. Durations in milliseconds; dollars and values are exact decimals.
 */
export type VariantCounts = {
  variant: string
  tasks: number
  /** Users whose first variant this is. */
  users: number
  conversions: number
  value: string
  cost_usd: string
  p50_ms: number | null
  p95_ms: number | null
  ratings: number
  mean_score: number | null
}

const countsStatement = {
  name: 'experiments_counts',
  text: `WITH exposed AS MATERIALIZED (
      SELECT t.id, t.variant, t.user_hash, e.created_at AS since,
        (extract(epoch FROM t.finished_at - t.created_at) * 1000)::float8 AS ms
      FROM experiments e JOIN tasks t ON t.experiment = e.name AND t.created_at >= e.created_at WHERE e.name = $1
    ), tasks_of AS (
      SELECT x.variant, count(*) AS tasks, coalesce(sum(a.cost_usd), 0) AS cost_usd,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY x.ms) AS p50_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY x.ms) AS p95_ms,
        count(f.score) AS ratings, avg(f.score) AS mean_score
      FROM exposed x LEFT JOIN LATERAL (SELECT sum(cost_usd) AS cost_usd FROM attempts WHERE task_id = x.id) a ON true
        LEFT JOIN feedback f ON f.task_id = x.id
      GROUP BY x.variant
    ), users_of AS (
      SELECT u.variant, count(*) AS users, count(c.user_key) AS conversions, sum(c.value) AS value
      FROM (SELECT DISTINCT ON (user_hash) user_hash, variant, since FROM exposed WHERE user_hash IS NOT NULL ORDER BY user_hash, id) u
        LEFT JOIN conversions c ON c.experiment = $1 AND c.user_key = u.user_hash AND c.at >= u.since
      GROUP BY u.variant
    )
    SELECT t.variant, t.tasks::float8 AS tasks, coalesce(u.users, 0)::float8 AS users, coalesce(u.conversions, 0)::float8 AS conversions,
      trim_scale(coalesce(u.value, 0))::text AS value, trim_scale(t.cost_usd)::text AS cost_usd, t.p50_ms, t.p95_ms,
      t.ratings::float8 AS ratings, t.mean_score::float8 AS mean_score
    FROM tasks_of t LEFT JOIN users_of u ON u.variant = t.variant`,
}

/**
 * Reads the statistics of an experiment, two at a time, because each reads all of its tasks.
 * @returns null: too many reads are waiting
 */
export function createVariantCounter(db: Db): (experiment: string) => Promise<VariantCounts[] | null> {
  const semaphore = createSemaphore({ atOnce: 2, waiting: 20, waitMs: 5000 })
  return experiment => semaphore(() => db.query<VariantCounts>(countsStatement, [experiment]))
}

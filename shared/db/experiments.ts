import type { Variant } from '#shared/experiments/definition.ts'
import { createLanes } from '#shared/lanes.ts'
import type { Db } from './pool.ts'

export type Experiment = { name: string; kind: string; variants: Variant[]; created_at: Date; updated_at: Date }

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

/** @returns null: it is of another kind, or the kind has another one */
export const putExperiment = async (
  db: Db,
  { name, kind, variants }: Pick<Experiment, 'name' | 'kind' | 'variants'>,
): Promise<Experiment | null> =>
  (await db.query<Experiment>(putStatement, [name, kind, JSON.stringify(variants)]))[0] ?? null

export const readExperiment = async (db: Db, name: string): Promise<Experiment | null> =>
  (
    await db.query<Experiment>(
      { name: 'experiments_read', text: `SELECT ${COLUMNS} FROM experiments WHERE name = $1` },
      [name],
    )
  )[0] ?? null

/** At most one a kind. */
export const listExperiments = (db: Db): Promise<Experiment[]> =>
  db.query<Experiment>({ name: 'experiments_list', text: `SELECT ${COLUMNS} FROM experiments ORDER BY name` })

/** With its conversions; its tasks stay. @returns what it was; null: there was none */
export const deleteExperiment = async (db: Db, name: string): Promise<Experiment | null> =>
  (
    await db.query<Experiment>(
      {
        name: 'experiments_delete',
        text: `WITH gone AS (DELETE FROM experiments WHERE name = $1 RETURNING ${COLUMNS}),
            c AS (DELETE FROM conversions WHERE experiment IN (SELECT name FROM gone))
          SELECT * FROM gone`,
      },
      [name],
    )
  )[0] ?? null

/** Of whom: a user, or the one whom a task is for. */
export type Converted = { by: 'task'; taskId: string } | { by: 'user'; userHash: Buffer }
/** `variant`: what the user got first; null: is not part of the experiment. `counted` false: it was counted before. */
export type Conversion = { variant: string | null; counted: boolean }

/**
 * Tasks and conversions from before the experiment are those of one that had its name and was deleted; a conversion of
 * such a one may have come in while it went, and gives way. A user who got another variant later, as the weights had changed,
 * is still one of the first: with both, those who come often would count twice.
 */
const convertStatement = (by: Converted['by']) => ({
  name: `experiments_convert_${by}`,
  text: `WITH who AS (
      SELECT e.name, e.created_at, ${by === 'user' ? '$2::bytea' : 't.user_hash'} AS user_hash FROM experiments e
      ${by === 'user' ? '' : 'JOIN tasks t ON t.id = $2 AND t.experiment = e.name AND t.created_at >= e.created_at'}
      WHERE e.name = $1
    ), exposed AS MATERIALIZED (
      SELECT t.variant, t.user_hash, who.created_at FROM who
        JOIN tasks t ON t.experiment = who.name AND t.user_hash = who.user_hash AND t.created_at >= who.created_at
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

/** Counts a conversion, once a user. To be repeated at will. */
export async function convert(
  db: Db,
  { experiment, who, value }: { experiment: string; who: Converted; value: number | null },
): Promise<Conversion> {
  const rows = await db.query<Conversion>(CONVERT[who.by], [
    experiment,
    who.by === 'task' ? who.taskId : who.userHash,
    value,
  ])
  return rows[0]!
}

/**
 * What became of the tasks that got a variant, and of the users who got it first: of one user in two variants it would
 * not be known which of them led to a conversion. Milliseconds; dollars and values are exact decimals.
 */
export type VariantCounts = {
  variant: string
  tasks: number
  /** Who got it before any other. */
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
      -- Each in the variant that came first, whatever came later.
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
 * Counts what became of an experiment, two at a time: each reads all of its tasks.
 * @returns null: too many are wanted, and this one was not begun
 */
export function createCounter(db: Db): (experiment: string) => Promise<VariantCounts[] | null> {
  const lanes = createLanes({ atOnce: 2, waiting: 20, waitMs: 5000 })
  return experiment => lanes(() => db.query<VariantCounts>(countsStatement, [experiment]))
}

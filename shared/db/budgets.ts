import { newId } from '#shared/ids.ts'
import type { Db, Statement } from './pool.ts'

/** `request` limits each call, the others the spending in an hour, day or month (UTC) or in total. */
export const BUDGET_WINDOWS = ['request', 'hour', 'day', 'month', 'total'] as const
export type BudgetWindow = (typeof BUDGET_WINDOWS)[number]

/** A budget with its current window. Dollars are exact decimals. */
export type Budget = {
  id: string
  /** global | key:<uuid> | kind:<kind> | provider:<name> | batch:<uuid> */
  scope: string
  window: BudgetWindow
  limit_usd: string
  /** Upper bound of the cost of calls in flight. 0 for `request`, like `spent_usd`. */
  reserved_usd: string
  spent_usd: string
  /** Never below 0. */
  remaining_usd: string
  /** null for `total`, which never resets, and for `request`. */
  resets_at: Date | null
}

/** SQL: start of the window that contains `at`; NULL for `request`. `span` and `at` are expressions. */
export const windowStart = (span: string, at = 'now()'): string =>
  `CASE ${span} WHEN 'total' THEN 'epoch'::timestamptz WHEN 'request' THEN NULL ELSE date_trunc(${span}, ${at}, 'UTC') END`

/** SQL: end of that window. Computed in UTC, because months of other time zones differ in hours. */
const windowEnd = (span: string, at = 'now()'): string =>
  `CASE WHEN ${span} IN ('request', 'total') THEN NULL
    ELSE (date_trunc(${span}, ${at} AT TIME ZONE 'UTC') + ('1 ' || ${span})::interval) AT TIME ZONE 'UTC' END`

/** For budgets `b` and their current windows `w`, if any. */
const REMAINING = 'greatest(0, b.limit_usd - coalesce(w.reserved_usd, 0) - coalesce(w.spent_usd, 0))'
const VIEW = `b.id, b.scope, b.span AS "window", trim_scale(b.limit_usd)::text AS limit_usd,
      trim_scale(coalesce(w.reserved_usd, 0))::text AS reserved_usd, trim_scale(coalesce(w.spent_usd, 0))::text AS spent_usd,
      trim_scale(${REMAINING})::text AS remaining_usd,
      ${windowEnd('b.span')} AS resets_at`
const CURRENT = `w.budget_id = b.id AND w.starts_at = ${windowStart('b.span')}`

/**
 * Writes the limit into the current and the next window, so that claims waiting for the lock of a window read the new limit. The
 * windows are upserts, because a window that `openBudgetWindows` has just inserted is not in this statement's snapshot; both
 * statements lock the budget first. A new budget starts with the costs settled since its window began. Calls that are in flight when
 * it is created do not count.
 */
const putStatement = {
  name: 'budgets_put',
  text: `WITH b AS (
      INSERT INTO budgets AS b (id, scope, span, limit_usd, created_at, updated_at) VALUES ($1, $2, $3, $4, now(), now())
      ON CONFLICT (scope, span) DO UPDATE SET limit_usd = excluded.limit_usd, updated_at = excluded.updated_at
      RETURNING b.*
    ), spent AS MATERIALIZED (
      -- The sum is negative if an estimate of an earlier hour was corrected.
      SELECT greatest(0, sum(r.cost_usd)) AS usd
      FROM b JOIN cost_rollups r ON b.id = $1 AND r.hour >= ${windowStart('b.span')} AND CASE split_part(b.scope, ':', 1)
        WHEN 'global' THEN true
        WHEN 'key' THEN 'key:' || r.api_key_id = b.scope
        WHEN 'kind' THEN 'kind:' || r.kind = b.scope
        WHEN 'provider' THEN 'provider:' || r.provider = b.scope
        ELSE false END
    ), w AS (
      INSERT INTO budget_windows AS w (budget_id, starts_at, ends_at, limit_usd, spent_usd)
      SELECT b.id, s.starts_at, ${windowEnd('b.span', 's.starts_at')}, b.limit_usd,
        CASE WHEN s.starts_at > now() THEN 0 ELSE spent.usd END
      FROM b CROSS JOIN spent CROSS JOIN LATERAL (VALUES (${windowStart('b.span')}), (${windowEnd('b.span')})) AS s(starts_at)
      WHERE s.starts_at IS NOT NULL ORDER BY s.starts_at
      ON CONFLICT (budget_id, starts_at) DO UPDATE SET limit_usd = excluded.limit_usd
      RETURNING w.*
    )
    SELECT ${VIEW} FROM b LEFT JOIN w ON ${CURRENT}`,
}

/** Sets a limit as a step of a transaction. */
export const putBudgetStep = (one: {
  scope: string
  window: BudgetWindow
  limitUsd: string
}): [statement: Statement, values: unknown[]] => [putStatement, [newId(), one.scope, one.window, one.limitUsd]]

/** Sets the limit of a scope and window. Effective for all reservations after its commit. @param limitUsd a decimal */
export async function putBudget(
  db: Db,
  one: { scope: string; window: BudgetWindow; limitUsd: string },
): Promise<Budget> {
  const rows = await db.query<Budget>(...putBudgetStep(one))
  return rows[0]!
}

/** @param window null: all */
export const listBudgets = (db: Db, window: BudgetWindow | null = null): Promise<Budget[]> =>
  db.query<Budget>(
    {
      name: 'budgets_list',
      text: `SELECT ${VIEW} FROM budgets b LEFT JOIN budget_windows w ON ${CURRENT}
        WHERE $1::text IS NULL OR b.span = $1 ORDER BY b.scope, b.span`,
    },
    [window],
  )

/** The lowest remaining amount and ratio for each type of scope and window. Rounded dollars, for metrics. */
export const leastRemaining = (
  db: Db,
): Promise<{ scope_kind: string; window: BudgetWindow; usd: number; ratio: number }[]> =>
  db.query({
    name: 'budgets_least',
    text: `SELECT split_part(b.scope, ':', 1) AS scope_kind, b.span AS "window", min(${REMAINING})::float8 AS usd,
        min(CASE WHEN b.limit_usd > 0 THEN ${REMAINING} / b.limit_usd ELSE 0 END)::float8 AS ratio
      FROM budgets b LEFT JOIN budget_windows w ON ${CURRENT} GROUP BY 1, 2`,
  })

/** Deletes a budget with its windows and their reservations. @returns the deleted budget; null: no such budget */
export async function deleteBudget(db: Db, id: string): Promise<Budget | null> {
  const rows = await db.query<Budget>(
    {
      name: 'budgets_delete',
      text: `WITH b AS (DELETE FROM budgets WHERE id = $1 RETURNING *)
        SELECT ${VIEW} FROM b LEFT JOIN budget_windows w ON ${CURRENT}`,
    },
    [id],
  )
  if (!rows[0]) return null
  // A second statement, because a window that was opened while the first one waited is not in its snapshot.
  await db.query(
    {
      name: 'budgets_delete_windows',
      text: `WITH in_order AS MATERIALIZED (SELECT id FROM budget_windows WHERE budget_id = $1 ORDER BY id FOR UPDATE)
        DELETE FROM budget_windows w USING in_order o WHERE w.id = o.id`,
    },
    [id],
  )
  return rows[0]
}

/**
 * Opens the current windows of all budgets, and those that start within two minutes. Idempotent. Claims are admitted only in open
 * windows, so that a missing window has no spending.
 */
export const openBudgetWindows = async (db: Db): Promise<void> =>
  void (await db.query({
    name: 'budgets_open_windows',
    // The lock waits for a limit that is being set, and then reads it.
    text: `WITH missing AS MATERIALIZED (
        SELECT b.id, b.span, b.limit_usd, s.starts_at
        FROM budgets b CROSS JOIN LATERAL (
          VALUES (${windowStart('b.span')}), (${windowStart('b.span', `(now() + interval '2 minutes')`)})
        ) AS s(starts_at)
        WHERE b.span <> 'request'
          AND NOT EXISTS (SELECT FROM budget_windows w WHERE w.budget_id = b.id AND w.starts_at = s.starts_at)
        ORDER BY b.id, s.starts_at FOR SHARE OF b
      )
      INSERT INTO budget_windows (budget_id, starts_at, ends_at, limit_usd)
      SELECT id, starts_at, ${windowEnd('span', 'starts_at')}, limit_usd FROM missing ORDER BY id, starts_at
      ON CONFLICT DO NOTHING`,
  }))

/** Deletes windows that ended 40 days ago and have no reservations. Later corrections are only in the ledger and its sums. */
export const pruneBudgetWindows = async (db: Db): Promise<void> =>
  void (await db.query({
    name: 'budgets_prune_windows',
    text: `DELETE FROM budget_windows WHERE id IN (
      SELECT w.id FROM budgets b JOIN budget_windows w ON w.budget_id = b.id
      WHERE w.ends_at < now() - interval '40 days' AND w.reserved_usd = 0 LIMIT 5000)`,
  }))

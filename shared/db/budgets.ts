import { newId } from '#shared/ids.ts'
import type { Db } from './pool.ts'

/** Of one call, or of what is spent in an hour, a day or a month (UTC) or ever. */
export const SPANS = ['request', 'hour', 'day', 'month', 'total'] as const
export type Span = (typeof SPANS)[number]

/** A budget with its present window. Dollars are exact decimals. */
export type Budget = {
  id: string
  /** global | key:<uuid> | kind:<kind> | provider:<name> | batch:<uuid> */
  scope: string
  span: Span
  limit_usd: string
  /** What calls that are under way may still cost; 0 for `request`, like `spent_usd`. */
  reserved_usd: string
  spent_usd: string
  /** Never below 0. */
  remaining_usd: string
  /** null: never (`total`), or with every call (`request`). */
  resets_at: Date | null
}

/** SQL: when the window that holds the moment `at` begins; null for `request`. `span` and `at` are expressions. */
export const windowStart = (span: string, at = 'now()'): string =>
  `CASE ${span} WHEN 'total' THEN 'epoch'::timestamptz WHEN 'request' THEN NULL ELSE date_trunc(${span}, ${at}, 'UTC') END`

/** SQL: when it ends, and the next begins. Added up in UTC: a month has as many hours as its days there. */
const windowEnd = (span: string, at = 'now()'): string =>
  `CASE WHEN ${span} IN ('request', 'total') THEN NULL
    ELSE (date_trunc(${span}, ${at} AT TIME ZONE 'UTC') + ('1 ' || ${span})::interval) AT TIME ZONE 'UTC' END`

/** Of budgets `b` and their present windows `w`, if there are any. */
const REMAINING = 'greatest(0, b.limit_usd - coalesce(w.reserved_usd, 0) - coalesce(w.spent_usd, 0))'
const VIEW = `b.id, b.scope, b.span, trim_scale(b.limit_usd)::text AS limit_usd,
      trim_scale(coalesce(w.reserved_usd, 0))::text AS reserved_usd, trim_scale(coalesce(w.spent_usd, 0))::text AS spent_usd,
      trim_scale(${REMAINING})::text AS remaining_usd,
      ${windowEnd('b.span')} AS resets_at`
const PRESENT = `w.budget_id = b.id AND w.starts_at = ${windowStart('b.span')}`

/**
 * A new limit is written over the old one in every window that has not ended: whoever waits for the lock of one reads
 * it. Both windows are written as upserts, as one that `openWindows` has just made is in no snapshot of this statement;
 * the lock of the budget keeps the two apart.
 * A new budget starts with what was settled since its window began; what is under way when it is made counts nowhere.
 */
const putStatement = {
  name: 'budgets_put',
  text: `WITH b AS (
      INSERT INTO budgets AS b (id, scope, span, limit_usd, created_at, updated_at) VALUES ($1, $2, $3, $4, now(), now())
      ON CONFLICT (scope, span) DO UPDATE SET limit_usd = excluded.limit_usd, updated_at = excluded.updated_at
      RETURNING b.*
    ), spent AS MATERIALIZED (
      -- Below 0 if an estimate of an hour before was corrected.
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
    SELECT ${VIEW} FROM b LEFT JOIN w ON ${PRESENT}`,
}

/** Sets the limit of a scope and span; from its commit on, nothing is reserved beyond it. @param limitUsd a decimal */
export async function putBudget(db: Db, one: { scope: string; span: Span; limitUsd: string }): Promise<Budget> {
  const rows = await db.query<Budget>(putStatement, [newId(), one.scope, one.span, one.limitUsd])
  return rows[0]!
}

/** @param span only these; null: all */
export const listBudgets = (db: Db, span: Span | null = null): Promise<Budget[]> =>
  db.query<Budget>(
    {
      name: 'budgets_list',
      text: `SELECT ${VIEW} FROM budgets b LEFT JOIN budget_windows w ON ${PRESENT}
        WHERE $1::text IS NULL OR b.span = $1 ORDER BY b.scope, b.span`,
    },
    [span],
  )

/** What is left of the budget that has least, for each sort of scope and span; in dollars, rounded: to look at. */
export const leastRemaining = (db: Db): Promise<{ scope_kind: string; span: Span; usd: number; ratio: number }[]> =>
  db.query({
    name: 'budgets_least',
    text: `SELECT split_part(b.scope, ':', 1) AS scope_kind, b.span, min(${REMAINING})::float8 AS usd,
        min(CASE WHEN b.limit_usd > 0 THEN ${REMAINING} / b.limit_usd ELSE 0 END)::float8 AS ratio
      FROM budgets b LEFT JOIN budget_windows w ON ${PRESENT} GROUP BY 1, 2`,
  })

/** What is reserved in its windows is forgotten with them. @returns the budget as it was, or null if there is none */
export async function deleteBudget(db: Db, id: string): Promise<Budget | null> {
  const rows = await db.query<Budget>(
    {
      name: 'budgets_delete',
      text: `WITH b AS (DELETE FROM budgets WHERE id = $1 RETURNING *)
        SELECT ${VIEW} FROM b LEFT JOIN budget_windows w ON ${PRESENT}`,
    },
    [id],
  )
  if (!rows[0]) return null
  // In a statement of its own: a window that was opened while the first one waited is not in that one's snapshot.
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
 * Opens the windows of now and those that begin within two minutes, for every budget. To be repeated; it writes nothing
 * when they are there. Claims are only admitted in windows that are, so that nothing has been spent in a missing one.
 */
export const openWindows = async (db: Db): Promise<void> =>
  void (await db.query({
    name: 'budgets_open_windows',
    // The lock makes it wait for a limit that is being set, and then reads that.
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

/** Windows that ended long ago, with nothing open in them; what is corrected later is then only in the ledger and its sums. */
export const forgetWindows = async (db: Db): Promise<void> =>
  void (await db.query({
    name: 'budgets_forget_windows',
    text: `DELETE FROM budget_windows WHERE id IN (
      SELECT w.id FROM budgets b JOIN budget_windows w ON w.budget_id = b.id
      WHERE w.ends_at < now() - interval '40 days' AND w.reserved_usd = 0 LIMIT 5000)`,
  }))

import { openBudgetWindows, windowStart } from '../budgets.ts'
import { type Column, defineColumns } from '../columns.ts'
import type { Db } from '../pool.ts'

/** Upper bounds of the cost and tokens of one call, and the budgets that pay for it. */
export type Reservation = {
  provider: string
  model: string
  kind: string
  apiKeyId: string
  /** The batch of a line, which may have a budget of its own. */
  batchId: string | null
  /** Decimal; reserved in every budget that applies. */
  usd: string
  priceVersion: string
  promptVersion: string
  inputTokens: number
  outputTokens: number
}

/** `n`: the number of the attempt to start, one above the newest. */
export type ClaimRequest = { id: string; epoch: number; n: number; reservation: Reservation }

export type BudgetRefusal = {
  /** A budget that refuses the reservation. */
  scope: string
  window: string
  limit_usd: string
  /** true: spent plus needed exceeds the limit. false: only other reservations are in the way, and may be released. */
  exceeded: boolean
  /** The limit less everything spent or reserved. */
  left_usd: string
  /** Milliseconds until the window ends; null: never. */
  resets_ms: number | null
}

/** `lost`: the claim is not available. `refused`: nothing has changed. */
export type ClaimOutcome = { kind: 'claimed' } | { kind: 'lost' } | { kind: 'refused'; by: BudgetRefusal }

/**
 * The statements of claim.ts and next-attempt.ts may be repeated when it is unknown whether they were committed: they then find
 * their own work done and return the same outcome.
 *
 * All statements lock in one order: attempts, budget windows (by id), tasks, hourly sums. Two statements that lock in different
 * orders deadlock; Postgres detects that after a second and the pool repeats one of them.
 *
 * A call is reserved in the current window of every budget that applies, or in none. The statement locks the windows before it
 * reads them, and admits its calls one after the other. A call counts those before it, including refused ones; `createAdmission`
 * retries the calls that were refused for that reason only.
 */
const COLUMNS: readonly Column<ClaimRequest>[] = [
  ['id', 'uuid', one => one.id],
  ['epoch', 'int', one => one.epoch],
  ['n', 'int', one => one.n],
  ['provider', 'text', one => one.reservation.provider],
  ['model', 'text', one => one.reservation.model],
  ['kind', 'text', one => one.reservation.kind],
  ['api_key_id', 'uuid', one => one.reservation.apiKeyId],
  ['batch_id', 'uuid', one => one.reservation.batchId],
  ['reserved_usd', 'numeric', one => one.reservation.usd],
  ['price_version', 'text', one => one.reservation.priceVersion],
  ['prompt_version', 'text', one => one.reservation.promptVersion],
  ['booked_input', 'bigint', one => one.reservation.inputTokens],
  ['booked_output', 'bigint', one => one.reservation.outputTokens],
]

/** @param more columns of a larger request */
export const requestColumns = <Request extends ClaimRequest>(more: readonly Column<Request>[] = []) =>
  defineColumns<Request>([...COLUMNS, ...more])

/** The common table expression `i`: the requests. */
export const requests = (
  columns: Pick<ReturnType<typeof requestColumns>, 'unnestOrdered'>,
  first: number,
): string => `i AS MATERIALIZED (
      SELECT * FROM ${columns.unnestOrdered('i', first)}
    )`

/**
 * Common table expressions from `applies` to `checks`: the budgets that apply to each request of `i`, and whether they have room.
 * @param worker the parameter with the id of the claiming process
 * @param after a common table expression that must run first, and whose `windows` are locked as well
 */
export const admission = (worker: string, after = ''): string => `applies AS MATERIALIZED (
      SELECT i.ord, i.reserved_usd, b.scope, b.span, b.limit_usd, w.id AS window_id
      FROM i CROSS JOIN LATERAL unnest(ARRAY['global', 'key:' || i.api_key_id, 'kind:' || i.kind, 'provider:' || i.provider, 'batch:' || i.batch_id]) AS s(scope)
        JOIN budgets b ON b.scope = s.scope
        LEFT JOIN budget_windows w ON w.budget_id = b.id AND w.starts_at = ${windowStart('b.span')}
        ${after && `CROSS JOIN (SELECT count(*) FROM ${after}) before`}
      WHERE NOT EXISTS (SELECT FROM attempts a WHERE a.task_id = i.id AND a.n = i.n AND a.worker_id = ${worker})
    ), locked AS MATERIALIZED (
      SELECT w.id, w.limit_usd, w.reserved_usd, w.spent_usd, w.ends_at FROM budget_windows w
      WHERE w.id IN (SELECT window_id FROM applies ${after && `UNION SELECT unnest(windows) FROM ${after}`}) ORDER BY w.id FOR UPDATE
    ), checks AS MATERIALIZED (
      SELECT a.ord, a.scope, a.span, coalesce(l.limit_usd, a.limit_usd) AS limit_usd, l.ends_at,
        CASE WHEN a.reserved_usd = 0 THEN true WHEN a.span = 'request' THEN a.reserved_usd <= a.limit_usd
          ELSE l.reserved_usd + l.spent_usd + sum(a.reserved_usd) OVER (PARTITION BY a.window_id ORDER BY a.ord) <= l.limit_usd END AS fits,
        CASE WHEN a.span = 'request' THEN a.reserved_usd > a.limit_usd ELSE l.spent_usd + a.reserved_usd > l.limit_usd END AS exceeded,
        CASE WHEN a.span = 'request' THEN a.limit_usd ELSE greatest(0, l.limit_usd - l.spent_usd - l.reserved_usd) END AS left_usd
      FROM applies a LEFT JOIN locked l ON l.id = a.window_id
    )`

/** Condition on a request of `i`: every budget has room. */
export const ADMITTED = 'NOT EXISTS (SELECT FROM checks c WHERE c.ord = i.ord AND c.fits IS NOT TRUE)'

/** The common table expression `started`: writes the attempts of the requests in `claimed`. */
export const startAttempts = (worker: string): string => `started AS (
      INSERT INTO attempts (task_id, n, worker_id, provider, model, kind, api_key_id, reserved_usd, windows, booked_input_tokens,
        booked_output_tokens, price_version, prompt_version, started_at)
      SELECT i.id, i.n, ${worker}, i.provider, i.model, i.kind, i.api_key_id, i.reserved_usd,
        ARRAY(SELECT a.window_id FROM applies a WHERE a.ord = i.ord AND a.window_id IS NOT NULL), i.booked_input, i.booked_output,
        i.price_version, i.prompt_version, now()
      FROM claimed c JOIN i ON i.ord = c.ord
      ON CONFLICT DO NOTHING
      RETURNING task_id, windows, reserved_usd
    )`

/** A SELECT of the reservations of `started`, by window. */
export const RESERVED = 'SELECT w.id, s.reserved_usd FROM started s CROSS JOIN LATERAL unnest(s.windows) AS w(id)'

/** Selects one row per request. Of several refusals it returns the one that lasts longest. `missing`: a window is not open yet. */
export const OUTCOMES = `SELECT i.ord::int AS ord, c.ord IS NOT NULL AS claimed,
      r.scope, r.span AS "window", r.limit_usd::text AS limit_usd, r.left_usd::text AS left_usd, r.exceeded,
      r.fits IS NULL AND r.scope IS NOT NULL AS missing, (extract(epoch FROM r.ends_at - now()) * 1000)::float8 AS resets_ms
    FROM i LEFT JOIN claimed c ON c.ord = i.ord LEFT JOIN LATERAL (
      SELECT * FROM checks c WHERE c.ord = i.ord AND c.fits IS NOT TRUE
      ORDER BY c.fits IS NULL DESC, c.exceeded DESC, c.ends_at DESC NULLS FIRST LIMIT 1
    ) r ON true`

export type OutcomeRow = BudgetRefusal & { ord: number; claimed: boolean; missing: boolean }

/** Puts the rows of `OUTCOMES` in the order of the requests. */
export function inOrder(requests: readonly unknown[], rows: OutcomeRow[]): OutcomeRow[] {
  const byOrd = new Map(rows.map(row => [row.ord, row]))
  return requests.map((_, index) => byOrd.get(index + 1)!)
}

/** Requests in one statement. Its joins compare row with row, so that their cost grows with the square. */
export const MAX_CLAIMS = 200

const MAX_TRIES = 2

/** Opens missing budget windows, and retries a request that only another one of the same statement kept out. */
export function createAdmission<Request extends ClaimRequest>(
  db: Db,
  claim: (request: Request) => Promise<OutcomeRow>,
): (request: Request) => Promise<ClaimOutcome> {
  return async request => {
    for (let tries = 1; ; tries++) {
      const { claimed, missing, scope, window, limit_usd, left_usd, exceeded, resets_ms } = await claim(request)
      if (claimed) return { kind: 'claimed' }
      if (scope === null) return { kind: 'lost' }
      if (missing) await openBudgetWindows(db)
      else if (exceeded || tries >= MAX_TRIES)
        return { kind: 'refused', by: { scope, window, limit_usd, left_usd, exceeded: exceeded ?? false, resets_ms } }
    }
  }
}

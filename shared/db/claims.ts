import { coalesce, patience } from '#shared/coalesce.ts'
import { booking, SETTLED, type Settlement, settlementColumns, settlementValues, UNKNOWN } from './attempts.ts'
import { openWindows, windowStart } from './budgets.ts'
import { type Db, itemsToBlame } from './pool.ts'
import { STATUS } from './tasks.ts'
import { DEAD } from './workers.ts'

/** What one call may cost and use at most, and who pays. */
export type Need = {
  provider: string
  model: string
  kind: string
  apiKeyId: string
  /** Of a line: the batch may have a budget of its own. */
  batchId: string | null
  /** Decimal; reserved in every budget that applies. */
  usd: string
  priceVersion: string
  promptVersion: string
  inputTokens: number
  outputTokens: number
}

/** `n`: the number of the attempt to start, one above the newest. */
export type ClaimRequest = { id: string; epoch: number; n: number; need: Need }

export type Refusal = {
  /** A budget that does not let it pass. */
  scope: string
  span: string
  limit_usd: string
  /**
   * Spent and needed are more than the limit; false: only what others have reserved stands in the way, a release may make
   * room.
   */
  exceeded: boolean
  /** Until the window ends, milliseconds; null: it never does. */
  resets_ms: number | null
}

/** `lost`: it was not there to be claimed. A refusal has changed nothing. */
export type ClaimOutcome = { kind: 'claimed' } | { kind: 'lost' } | { kind: 'refused'; by: Refusal }

/**
 * Both statements below may be repeated when it is not known whether they were committed: the second time they find
 * their own work done and answer the same.
 *
 * Locks are taken in one order, everywhere: attempts, budget windows (in the order of their ids), tasks, sums by hour. Two
 * statements that meet in another order cost a deadlock, which is found after a second and repeated by the pool.
 *
 * Budgets: a call is reserved in the present window of every budget that applies, or in none. The windows are locked,
 * and read when they are; the calls of one statement are admitted in turn
 * (a later one counts those before it, also the refused: they are asked about again, apart).
 */
const input = (first: number, more = '') => {
  const types = 'uuid int int text text text uuid uuid numeric text text bigint bigint'.split(' ')
  return `i AS MATERIALIZED (
      SELECT * FROM unnest(${types.map((type, index) => `$${first + index}::${type}[]`).join(', ')}${more && `, $${first + types.length}::int[]`})
        WITH ORDINALITY AS i(id, epoch, n, provider, model, kind, api_key_id, batch_id, need, price_version, prompt_version, booked_input, booked_output, ${more}${more && ', '}ord)
    )`
}

const inputValues = (items: ClaimRequest[]) => [
  items.map(item => item.id),
  items.map(item => item.epoch),
  items.map(item => item.n),
  items.map(item => item.need.provider),
  items.map(item => item.need.model),
  items.map(item => item.need.kind),
  items.map(item => item.need.apiKeyId),
  items.map(item => item.need.batchId),
  items.map(item => item.need.usd),
  items.map(item => item.need.priceVersion),
  items.map(item => item.need.promptVersion),
  items.map(item => item.need.inputTokens),
  items.map(item => item.need.outputTokens),
]

/** @param worker the parameter that holds the id of the claiming process */
const admission = (worker: string, after = '') => `applies AS MATERIALIZED (
      SELECT i.ord, i.need, b.scope, b.span, b.limit_usd, w.id AS window_id
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
        CASE WHEN a.need = 0 THEN true WHEN a.span = 'request' THEN a.need <= a.limit_usd
          ELSE l.reserved_usd + l.spent_usd + sum(a.need) OVER (PARTITION BY a.window_id ORDER BY a.ord) <= l.limit_usd END AS fits,
        CASE WHEN a.span = 'request' THEN a.need > a.limit_usd ELSE l.spent_usd + a.need > l.limit_usd END AS exceeded
      FROM applies a LEFT JOIN locked l ON l.id = a.window_id
    )`
const ADMITTED = 'NOT EXISTS (SELECT FROM checks c WHERE c.ord = i.ord AND c.fits IS NOT TRUE)'

const started = (worker: string) => `started AS (
      INSERT INTO attempts (task_id, n, worker_id, provider, model, kind, api_key_id, reserved_usd, windows, booked_input_tokens,
        booked_output_tokens, price_version, prompt_version, started_at)
      SELECT i.id, i.n, ${worker}, i.provider, i.model, i.kind, i.api_key_id, i.need,
        ARRAY(SELECT a.window_id FROM applies a WHERE a.ord = i.ord AND a.window_id IS NOT NULL), i.booked_input, i.booked_output,
        i.price_version, i.prompt_version, now()
      FROM claimed c JOIN i ON i.ord = c.ord
      ON CONFLICT DO NOTHING
      RETURNING task_id, windows, reserved_usd
    )`
const RESERVED = 'SELECT w.id, s.reserved_usd FROM started s CROSS JOIN LATERAL unnest(s.windows) AS w(id)'

/** The refusal that lasts longest. A window that is not there yet has no limit_usd to be exceeded: `missing`. */
const OUTCOMES = `SELECT i.ord::int AS ord, c.ord IS NOT NULL AS claimed, r.scope, r.span, r.limit_usd::text AS limit_usd, r.exceeded,
      r.fits IS NULL AND r.scope IS NOT NULL AS missing, (extract(epoch FROM r.ends_at - now()) * 1000)::float8 AS resets_ms
    FROM i LEFT JOIN claimed c ON c.ord = i.ord LEFT JOIN LATERAL (
      SELECT * FROM checks c WHERE c.ord = i.ord AND c.fits IS NOT TRUE
      ORDER BY c.fits IS NULL DESC, c.exceeded DESC, c.ends_at DESC NULLS FIRST LIMIT 1
    ) r ON true`

type OutcomeRow = Refusal & { ord: number; claimed: boolean; missing: boolean }

const claimStatement = {
  name: 'tasks_claim',
  text: `WITH ${input(2)}, ${admission('$1')}, claimed AS (
      UPDATE tasks t SET status = 'running', worker_id = $1, claims = t.claims + (t.status = 'queued')::int, attempts = i.n,
        started_at = coalesce(t.started_at, now())
      FROM i WHERE t.id = i.id AND t.epoch = i.epoch AND t.deadline_at > now()
        AND (${STATUS} = 'queued' AND t.attempts = i.n - 1 OR ${STATUS} = 'running' AND t.worker_id = $1 AND t.attempts = i.n)
        AND ${ADMITTED}
      RETURNING i.ord
    ), ${started('$1')}, booked AS (
      UPDATE budget_windows w SET reserved_usd = w.reserved_usd + r.usd
      FROM (SELECT id, sum(reserved_usd) AS usd FROM (${RESERVED}) r GROUP BY id) r WHERE w.id = r.id
    )
    ${OUTCOMES}`,
}

/**
 * Takes queued tasks for `workerId`, reserves what their calls may cost and writes the `started` attempt of each.
 * @throws if Postgres cannot be asked
 */
export function createClaimer(
  db: Db,
  workerId: string,
  lingerMs = 0,
): (request: ClaimRequest) => Promise<ClaimOutcome> {
  return admitting(
    coalesce<ClaimRequest, OutcomeRow>({
      max: MOST_CLAIMS,
      ...patience(lingerMs),
      itemsToBlame,
      flush: async items =>
        inOrder(items, await db.query<OutcomeRow>(claimStatement, [workerId, ...inputValues(items)])),
    }),
    db,
  )
}

/** Its joins are by comparison, row with row. */
const MOST_CLAIMS = 200

const inOrder = (items: unknown[], rows: OutcomeRow[]): OutcomeRow[] => {
  const byOrd = new Map(rows.map(row => [row.ord, row]))
  return items.map((_, index) => byOrd.get(index + 1)!)
}

/**
 * Opens windows that nobody has yet, and asks again for whom only another of the same statement stood in the way.
 */
function admitting<Request extends ClaimRequest>(
  ask: (request: Request) => Promise<OutcomeRow>,
  db: Db,
): (request: Request) => Promise<ClaimOutcome> {
  return async request => {
    for (let asked = 1; ; asked++) {
      const { claimed, missing, scope, span, limit_usd, exceeded, resets_ms } = await ask(request)
      if (claimed) return { kind: 'claimed' }
      if (scope === null) return { kind: 'lost' }
      if (missing) await openWindows(db)
      else if (exceeded || asked >= MOST_ASKED)
        return { kind: 'refused', by: { scope, span, limit_usd, exceeded: exceeded ?? false, resets_ms } }
    }
  }
}
const MOST_ASKED = 2

const nextStatement = {
  name: 'tasks_next_attempt',
  text: `WITH ${input(2, 'tries')}, ${settlementColumns(16)}, ${admission('$1', 'settled')}, claimed AS (
      UPDATE tasks t SET attempts = i.n, tries = i.tries, claims = 1
      FROM i, (SELECT count(*) FROM settled) before
      WHERE t.id = i.id AND t.epoch = i.epoch AND ${STATUS} = 'running' AND t.worker_id = $1
        AND t.attempts IN (i.n - 1, i.n) AND ${ADMITTED}
      RETURNING i.ord
    ), ${started('$1')}, ${booking(RESERVED)}
    ${OUTCOMES}`,
}

/** `settlement` null: the attempt before it has been settled, by a refused request. */
export type NextRequest = ClaimRequest & { tries: number; settlement: Settlement | null }

/**
 * Settles the attempt that failed and starts the next one under the same claim, in one transaction. A refusal leaves the
 * claim, with the attempt before it settled.
 */
export function createNextAttempt(db: Db, workerId: string): (request: NextRequest) => Promise<ClaimOutcome> {
  return admitting(
    coalesce<NextRequest, OutcomeRow>({
      max: MOST_CLAIMS,
      itemsToBlame,
      flush: async items =>
        inOrder(
          items,
          await db.query<OutcomeRow>(nextStatement, [
            workerId,
            ...inputValues(items),
            items.map(item => item.tries),
            ...settlementValues(items.map(item => item.settlement && { taskId: item.id, ...item.settlement })),
          ]),
        ),
    }),
    db,
  )
}

/** Of the claim of this epoch and of no later one: that would be another run's, with a call under way. */
const abandonStatement = {
  name: 'attempts_abandon',
  text: `WITH settled AS (
      UPDATE attempts a SET outcome = 'aborted', error = $5, cost_usd = 0, settlements = a.settlements + 1, finished_at = now()
      FROM tasks t WHERE a.task_id = $1 AND a.n = $3 AND a.worker_id = $4 AND (a.outcome || '') = 'started'
        AND t.id = a.task_id AND t.epoch = $2 AND t.attempts = a.n
      RETURNING ${SETTLED}
    ), ${booking()}
    SELECT n FROM settled`,
}
const NOT_MADE = { code: 'aborted', message: 'The task had ended before the call could be made; it was not made.' }

/**
 * For a claim that was found lost when it was asked for again: what an earlier time may have reserved and started is given
 * back, as no call was made. @returns whether there was something
 */
export const abandonAttempt = async (
  db: Db,
  workerId: string,
  { id, epoch, n }: Pick<ClaimRequest, 'id' | 'epoch' | 'n'>,
): Promise<boolean> => (await db.query(abandonStatement, [id, epoch, n, workerId, JSON.stringify(NOT_MADE)])).length > 0

export type Requeue = {
  id: string
  epoch: number
  /** From when on it may run again, milliseconds from now. */
  delayMs: number
  tries: number
  /** What came of its newest attempt, if that is still to be written. */
  settlement: Settlement | null
  /** It holds the claim. */
  claimed: boolean
}

const requeueStatement = {
  name: 'tasks_requeue',
  text: `WITH input AS (
      SELECT * FROM unnest($1::uuid[], $2::int[], $3::float8[], $4::int[], $5::boolean[]) AS i(id, epoch, delay_ms, tries, claimed)
    ), ${settlementColumns(7)}, ${booking()}
    UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, worker_id = NULL, tries = i.tries,
      claims = CASE WHEN i.claimed THEN 0 ELSE t.claims END,
      dispatched_at = CASE WHEN t.batch_id IS NULL THEN now() ELSE 'infinity' END, run_at = now() + i.delay_ms * interval '1 millisecond'
    FROM input i, (SELECT count(*) FROM booked) b WHERE t.id = i.id AND t.epoch = i.epoch
      AND CASE WHEN i.claimed THEN ${STATUS} = 'running' AND t.worker_id = $6 ELSE ${STATUS} = 'queued' END
    RETURNING t.id, t.epoch`,
}

/**
 * Gives a task back to wait: settles its attempt, drops the claim and opens a new epoch, which the caller is to dispatch, or,
 * if it is a line, to run again itself.
 * @returns the new epoch, or null if the claim was lost
 */
export function createRequeuer(db: Db, workerId: string): (request: Requeue) => Promise<number | null> {
  return coalesce<Requeue, number | null>({
    max: 500,
    itemsToBlame,
    flush: async items => {
      const rows = await db.query<{ id: string; epoch: number }>(requeueStatement, [
        items.map(item => item.id),
        items.map(item => item.epoch),
        items.map(item => item.delayMs),
        items.map(item => item.tries),
        items.map(item => item.claimed),
        workerId,
        ...settlementValues(items.map(item => item.settlement && { taskId: item.id, ...item.settlement })),
      ])
      const byId = new Map(rows.map(row => [row.id, row.epoch]))
      return items.map(item => byId.get(item.id) ?? null)
    },
  })
}

const takeOverStatement = {
  name: 'claims_take_over',
  text: `WITH dead AS MATERIALIZED (
      SELECT t.id, t.epoch, t.worker_id, t.claims, t.attempts FROM tasks t LEFT JOIN workers w ON w.id = t.worker_id
      WHERE t.status = 'running' AND (w.id IS NULL OR ${DEAD})
      LIMIT $1
    ), settled AS (
      UPDATE attempts a SET ${UNKNOWN}
      FROM dead d WHERE a.task_id = d.id AND a.n = d.attempts AND a.outcome = 'started'
      RETURNING ${SETTLED}
    ), ${booking()}, requeued AS (
      UPDATE tasks t SET status = 'queued', epoch = t.epoch + 1, worker_id = NULL,
        dispatched_at = CASE WHEN t.batch_id IS NOT NULL THEN 'infinity'::timestamptz END
      FROM dead d, (SELECT count(*) FROM booked) b
      WHERE t.id = d.id AND t.epoch = d.epoch AND t.worker_id = d.worker_id AND ${STATUS} = 'running' AND d.claims < $2
      RETURNING t.id
    )
    SELECT id, false AS hopeless FROM requeued UNION ALL SELECT id, true FROM dead WHERE claims >= $2`,
}

/** No call lasts longer than CALL_TIMEOUT_SECONDS may say; with time to write down what came of it. */
const LONGEST_CALL = "interval '65 minutes'"

/** Of the living, only the few that were started so long ago are looked at. */
const orphansStatement = {
  name: 'attempts_orphaned',
  text: `WITH orphaned AS (
      SELECT a.task_id, a.n FROM attempts a LEFT JOIN workers w ON w.id = a.worker_id JOIN tasks t ON t.id = a.task_id
      WHERE a.outcome = 'started' AND (w.id IS NULL OR ${DEAD} OR a.started_at < now() - ${LONGEST_CALL}) AND t.status <> 'running'
        AND (w.id IS NULL OR ${DEAD} OR t.finished_at < now() - ${LONGEST_CALL})
      LIMIT $1 FOR UPDATE OF a SKIP LOCKED
    ), settled AS (
      UPDATE attempts a SET ${UNKNOWN}
      FROM orphaned o WHERE a.task_id = o.task_id AND a.n = o.n AND a.outcome = 'started' RETURNING ${SETTLED}
    ), ${booking()}
    SELECT n FROM settled`,
}

/**
 * Takes the claims of dead processes away: the attempt becomes `unknown`, the task is queued again under a new epoch.
 * `hopeless` ones have been claimed `maxClaims` times without a settlement and are left for the caller to fail.
 */
export async function takeOverDeadClaims(
  db: Db,
  limit: number,
  maxClaims: number,
): Promise<{ taken: number; hopeless: string[] }> {
  const rows = await db.query<{ id: string; hopeless: boolean }>(takeOverStatement, [limit, maxClaims])
  const hopeless = rows.filter(row => row.hopeless).map(row => row.id)
  return { taken: rows.length - hopeless.length, hopeless }
}

/**
 * Attempts of dead processes whose task has ended meanwhile (cancelled, expired) become `unknown`; so do those of living ones
 * whose call must be over, and of which nobody knows any more.
 */
export async function closeOrphanedAttempts(db: Db, limit: number): Promise<number> {
  return (await db.query(orphansStatement, [limit])).length
}

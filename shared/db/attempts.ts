import type { TaskError } from '#shared/errors.ts'
import { jsonOrNull } from './json.ts'

/** What came of one provider call, with what it cost. */
export type Settlement = {
  /** Number of the attempt within its task. */
  n: number
  /** `succeeded`, `rejected` (an answer that failed the check), `unknown`, or why the call failed. */
  outcome: string
  error?: TaskError
  usage: { inputTokens: number; outputTokens: number; cacheReadTokens: number; cacheWriteTokens: number } | null
  /** Decimal, exact; null: nobody said, it is charged at what was reserved for it. */
  costUsd: string | null
}

/** The end of the attempts of dead processes: charged at their reservation until somebody knows better. */
export const UNKNOWN = `outcome = 'unknown', cost_usd = a.reserved_usd, estimated = true, settlements = a.settlements + 1, finished_at = now()`

/** What a common table expression `settled`, an UPDATE of attempts a, must return for `booking`. */
export const SETTLED = `a.task_id, a.n, a.provider, a.model, a.kind, a.api_key_id, a.windows, a.reserved_usd, a.cost_usd, a.estimated,
    a.settlements, a.input_tokens, a.output_tokens, a.cache_read_tokens, a.cache_write_tokens`

/**
 * The common table expression `settled`: closes attempts that are still open, each exactly once, whatever became of
 * their task; one that was `unknown` may be corrected, once. Reads the parameters from `$first` on, as `settlementValues`
 * makes them. To be followed by `booking`.
 */
export const settlementColumns = (first: number): string => {
  const types = ['uuid', 'int', 'text', 'json', 'bigint', 'bigint', 'bigint', 'bigint', 'numeric']
  const columns =
    'task_id, n, outcome, error, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd'
  return `settled AS (
      UPDATE attempts a SET outcome = s.outcome, error = s.error, input_tokens = s.input_tokens, output_tokens = s.output_tokens,
        cache_read_tokens = s.cache_read_tokens, cache_write_tokens = s.cache_write_tokens,
        cost_usd = coalesce(s.cost_usd, a.reserved_usd), estimated = s.cost_usd IS NULL, settlements = a.settlements + 1, finished_at = now()
      FROM unnest(${types.map((type, index) => `$${first + index}::${type}[]`).join(', ')}) AS s(${columns})
      WHERE a.task_id = s.task_id AND a.n = s.n AND (a.outcome = 'started' OR a.outcome = 'unknown' AND s.outcome <> 'unknown')
      RETURNING ${SETTLED}
    )`
}

/**
 * The common table expressions that carry what was `settled` into the budget windows that it was reserved in (`booked`)
 * and into the sums by hour (`rolled`). A first settlement gives the reservation back and spends the cost; a second one
 * finds the reservation spent and spends the difference.
 * @param reserved a SELECT of (id, reserved_usd) with what the same statement reserves: a row can be updated only once in it
 */
export const booking = (reserved?: string): string => `moved AS (
      SELECT id, sum(reserved_usd) AS reserved_usd, sum(spent_usd) AS spent_usd FROM (
        SELECT w.id, CASE WHEN x.settlements = 1 THEN -x.reserved_usd ELSE 0 END AS reserved_usd,
          x.cost_usd - CASE WHEN x.settlements = 1 THEN 0 ELSE x.reserved_usd END AS spent_usd
        FROM settled x CROSS JOIN LATERAL unnest(x.windows) AS w(id)
        ${reserved ? `UNION ALL SELECT r.id, r.reserved_usd, 0 FROM (${reserved}) r` : ''}
      ) m GROUP BY id
    ), in_order AS MATERIALIZED (
      SELECT w.id FROM budget_windows w WHERE w.id IN (SELECT id FROM moved) ORDER BY w.id FOR UPDATE
    ), booked AS (
      UPDATE budget_windows w SET reserved_usd = w.reserved_usd + m.reserved_usd, spent_usd = w.spent_usd + m.spent_usd
      FROM in_order o JOIN moved m ON m.id = o.id WHERE w.id = o.id
      RETURNING w.id
    ), rolled AS (
      INSERT INTO cost_rollups AS r (hour, provider, model, kind, api_key_id, calls, input_tokens, output_tokens,
        cache_read_tokens, cache_write_tokens, cost_usd, estimated_usd)
      SELECT date_trunc('hour', now(), 'UTC'), provider, model, kind, api_key_id,
        count(*) FILTER (WHERE settlements = 1), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
        coalesce(sum(cache_read_tokens), 0), coalesce(sum(cache_write_tokens), 0),
        sum(cost_usd - CASE WHEN settlements = 1 THEN 0 ELSE reserved_usd END),
        sum(CASE WHEN estimated THEN cost_usd ELSE 0 END - CASE WHEN settlements = 1 THEN 0 ELSE reserved_usd END)
      FROM settled GROUP BY provider, model, kind, api_key_id ORDER BY provider, model, kind, api_key_id
      ON CONFLICT (hour, provider, model, kind, api_key_id) DO UPDATE SET calls = r.calls + excluded.calls,
        input_tokens = r.input_tokens + excluded.input_tokens, output_tokens = r.output_tokens + excluded.output_tokens,
        cache_read_tokens = r.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
        cost_usd = r.cost_usd + excluded.cost_usd, estimated_usd = r.estimated_usd + excluded.estimated_usd
    )`

export function settlementValues(items: (({ taskId: string } & Settlement) | null)[]): unknown[] {
  const settled = items.filter(item => item !== null)
  return [
    settled.map(item => item.taskId),
    settled.map(item => item.n),
    settled.map(item => item.outcome),
    settled.map(item => jsonOrNull(item.error)),
    settled.map(item => item.usage?.inputTokens ?? null),
    settled.map(item => item.usage?.outputTokens ?? null),
    settled.map(item => item.usage?.cacheReadTokens ?? null),
    settled.map(item => item.usage?.cacheWriteTokens ?? null),
    settled.map(item => item.costUsd),
  ]
}

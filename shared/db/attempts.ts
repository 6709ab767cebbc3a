import type { TaskError } from '#shared/errors.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'
import { defineColumns } from './columns.ts'
import { jsonOrNull } from './json.ts'

/** The outcome and the cost of one provider call. */
export type Settlement = {
  /** Number of the attempt within its task. */
  n: number
  /** `succeeded`, `rejected` (the answer failed its check), `unknown`, or the kind of the call's failure. */
  outcome: string
  error?: TaskError
  usage: TokenUsage | null
  /** Why the model stopped writing; absent: no text answer. */
  finishReason?: FinishReason | null
  /** Exact decimal; null: unknown, the attempt is charged at its reservation. */
  costUsd: string | null
}

/** SET list that settles attempts `a` of dead processes: they are charged at their reservation until corrected. */
export const SET_UNKNOWN = `outcome = 'unknown', cost_usd = a.reserved_usd, estimated = true, settlements = a.settlements + 1, finished_at = now()`

/** Columns that the common table expression `settled`, an UPDATE of attempts `a`, must return for `bookSettled`. */
export const SETTLED_COLUMNS = `a.task_id, a.n, a.provider, a.model, a.kind, a.api_key_id, a.windows, a.reserved_usd, a.cost_usd, a.estimated,
    a.settlements, a.input_tokens, a.output_tokens, a.cache_read_tokens, a.cache_write_tokens, a.reasoning_tokens`

const settlementColumns = defineColumns<Settlement & { taskId: string }>([
  ['task_id', 'uuid', one => one.taskId],
  ['n', 'int', one => one.n],
  ['outcome', 'text', one => one.outcome],
  ['error', 'json', one => jsonOrNull(one.error)],
  ['input_tokens', 'bigint', one => one.usage?.inputTokens ?? null],
  ['output_tokens', 'bigint', one => one.usage?.outputTokens ?? null],
  ['cache_read_tokens', 'bigint', one => one.usage?.cacheReadTokens ?? null],
  ['cache_write_tokens', 'bigint', one => one.usage?.cacheWriteTokens ?? null],
  ['reasoning_tokens', 'bigint', one => one.usage?.reasoningTokens ?? null],
  ['finish_reason', 'text', one => one.finishReason ?? null],
  ['cost_usd', 'numeric', one => one.costUsd],
])

/** The parameters of `settleAttempts`, for the tasks that have a settlement. */
export const settlementValues = (tasks: readonly { id: string; settlement: Settlement | null }[]): unknown[][] =>
  settlementColumns.values(tasks.flatMap(({ id, settlement }) => (settlement ? [{ taskId: id, ...settlement }] : [])))

/**
 * The common table expression `settled`, to be followed by `bookSettled`. It settles each open attempt exactly once, whatever
 * the status of its task. An `unknown` attempt may be corrected once.
 * @param first number of the first of the parameters that `settlementValues` returns
 */
export const settleAttempts = (first: number): string => `settled AS (
      UPDATE attempts a SET outcome = s.outcome, error = s.error, input_tokens = s.input_tokens, output_tokens = s.output_tokens,
        cache_read_tokens = s.cache_read_tokens, cache_write_tokens = s.cache_write_tokens,
        reasoning_tokens = s.reasoning_tokens, finish_reason = s.finish_reason,
        cost_usd = coalesce(s.cost_usd, a.reserved_usd), estimated = s.cost_usd IS NULL, settlements = a.settlements + 1, finished_at = now()
      FROM ${settlementColumns.unnest('s', first)}
      WHERE a.task_id = s.task_id AND a.n = s.n AND (a.outcome = 'started' OR a.outcome = 'unknown' AND s.outcome <> 'unknown')
      RETURNING ${SETTLED_COLUMNS}
    )`

/**
 * Common table expressions that add the `settled` attempts to the budget windows that hold their reservations (`booked`) and to
 * the hourly sums (`rolled`). The first settlement releases the reservation and spends the cost. The second one finds the
 * reservation spent and spends the difference.
 * @param reserved a SELECT of (id, reserved_usd) with the reservations of the same statement, because a statement can update
 * a row only once
 */
export const bookSettled = (reserved?: string): string => `moved AS (
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
        cache_read_tokens, cache_write_tokens, reasoning_tokens, cost_usd, estimated_usd)
      SELECT date_trunc('hour', now(), 'UTC'), provider, model, kind, api_key_id,
        count(*) FILTER (WHERE settlements = 1), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
        coalesce(sum(cache_read_tokens), 0), coalesce(sum(cache_write_tokens), 0), coalesce(sum(reasoning_tokens), 0),
        sum(cost_usd - CASE WHEN settlements = 1 THEN 0 ELSE reserved_usd END),
        sum(CASE WHEN estimated THEN cost_usd ELSE 0 END - CASE WHEN settlements = 1 THEN 0 ELSE reserved_usd END)
      FROM settled GROUP BY provider, model, kind, api_key_id ORDER BY provider, model, kind, api_key_id
      ON CONFLICT (hour, provider, model, kind, api_key_id) DO UPDATE SET calls = r.calls + excluded.calls,
        input_tokens = r.input_tokens + excluded.input_tokens, output_tokens = r.output_tokens + excluded.output_tokens,
        cache_read_tokens = r.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = r.cache_write_tokens + excluded.cache_write_tokens,
        reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens,
        cost_usd = r.cost_usd + excluded.cost_usd, estimated_usd = r.estimated_usd + excluded.estimated_usd
    )`

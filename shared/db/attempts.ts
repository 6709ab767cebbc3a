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
  /** Decimal, exact; null: no price is known. */
  costUsd: string | null
  priceVersion: string | null
}

/**
 * The common table expression `settled`: closes attempts that are still open, each exactly once, whatever became of
 * their task. Reads the parameters from `$first` on, as `settlementValues` makes them.
 */
export const settlementColumns = (first: number): string => {
  const types = ['uuid', 'int', 'text', 'json', 'bigint', 'bigint', 'bigint', 'bigint', 'numeric', 'text']
  const columns =
    'task_id, n, outcome, error, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, price_version'
  return `settled AS (
      UPDATE attempts a SET outcome = s.outcome, error = s.error, input_tokens = s.input_tokens, output_tokens = s.output_tokens,
        cache_read_tokens = s.cache_read_tokens, cache_write_tokens = s.cache_write_tokens, cost_usd = s.cost_usd,
        price_version = s.price_version, finished_at = now()
      FROM unnest(${types.map((type, index) => `$${first + index}::${type}[]`).join(', ')}) AS s(${columns})
      WHERE a.task_id = s.task_id AND a.n = s.n AND a.outcome IN ('started', 'unknown')
    )`
}

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
    settled.map(item => item.priceVersion),
  ]
}

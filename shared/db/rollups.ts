import { createSemaphore } from '#shared/concurrency/semaphore.ts'
import type { Db } from './pool.ts'

/** Groups for cost sums, and their SQL. */
const GROUPS = {
  provider: 'provider',
  model: 'model',
  kind: 'kind',
  key: 'api_key_id',
  day: `to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD')`,
} as const
export type CostGroup = keyof typeof GROUPS
export const COST_GROUPS = Object.keys(GROUPS) as CostGroup[]

export type CostSums = {
  /** Settled attempts. */
  calls: number
  input_tokens: number
  output_tokens: number
  cache_read_tokens: number
  cache_write_tokens: number
  /** Part of `output_tokens`. */
  reasoning_tokens: number
  /** Decimals, exact. */
  cost_usd: string
  /** The estimated part of `cost_usd`. */
  estimated_usd: string
}
/** Sums of one group. `key` is a uuid, `day` an ISO date in UTC. */
export type CostRow = CostSums & Partial<Record<CostGroup, string>>

export type CostQuery = {
  groupBy: CostGroup[]
  /** Hours that start at or after `from` and before `to`. */
  from: Date
  to: Date
  /** Maximum number of rows. The totals include all rows. */
  limit: number
}
export type Costs = { rows: CostRow[]; totals: CostSums; truncated: boolean }

const TOKENS = [
  'calls',
  'input_tokens',
  'output_tokens',
  'cache_read_tokens',
  'cache_write_tokens',
  'reasoning_tokens',
] as const
const DOLLARS = ['cost_usd', 'estimated_usd'] as const
const dollars = (sum: string) => `trim_scale(coalesce(${sum}, 0))::text`
// Counts are integers far below 2^53.
const SUMS = [
  ...TOKENS.map(name => `coalesce(sum(${name}), 0)::float8 AS ${name}`),
  ...DOLLARS.map(name => `${dollars(`sum(${name})`)} AS ${name}`),
].join(', ')

function statement(groups: CostGroup[]) {
  const named = groups.map(name => `${GROUPS[name]} AS "${name}", `).join('')
  // The totals come first, from the same scan. There may be no groups.
  const columns = groups.map(name => GROUPS[name]).join(', ')
  const order = groups.includes('day') ? ['"day"', 'sum(cost_usd) DESC'] : ['sum(cost_usd) DESC']
  const grouped = `GROUP BY GROUPING SETS ((${columns}), ())
      ORDER BY ${[`GROUPING(${columns}) DESC`, ...order, ...groups.map(name => `"${name}"`)].join(', ')} LIMIT $3`
  return {
    name: `rollups_costs_${groups.join('_')}`,
    text: `SELECT ${named}${SUMS} FROM cost_rollups WHERE hour >= $1 AND hour < $2 ${columns ? grouped : 'LIMIT $3'}`,
  }
}

/** In order of days if grouped by day, then by cost, highest first. */
async function readCosts(db: Db, { groupBy, from, to, limit }: CostQuery): Promise<Costs> {
  // A fixed order keeps the number of statements small.
  const groups = COST_GROUPS.filter(name => groupBy.includes(name))
  const [totals, ...rows] = await db.query<CostRow>(statement(groups), [from, to, limit + 2])
  const sums = Object.fromEntries([...TOKENS, ...DOLLARS].map(name => [name, totals![name]])) as unknown as CostSums
  return {
    rows: groups.length > 0 ? rows.slice(0, limit) : [totals!],
    totals: sums,
    truncated: rows.length > limit,
  }
}

export type Spent = { today_usd: string; month_usd: string; total_usd: string }

/** Today, this month (UTC) and in total. The materialized boundaries are computed once instead of per row. */
const spentStatement = {
  name: 'rollups_spent',
  text: `WITH since AS MATERIALIZED (SELECT date_trunc('day', now(), 'UTC') AS day, date_trunc('month', now(), 'UTC') AS month)
    SELECT ${dollars('sum(r.cost_usd) FILTER (WHERE r.hour >= since.day)')} AS today_usd,
      ${dollars('sum(r.cost_usd) FILTER (WHERE r.hour >= since.month)')} AS month_usd,
      ${dollars('sum(r.cost_usd)')} AS total_usd
    FROM since CROSS JOIN cost_rollups r`,
}

/**
 * Reads costs, two queries at a time: a query over years must not take the connections that submissions need.
 * @returns functions that resolve to null if too many queries are waiting
 */
export function createCostReader(db: Db) {
  const semaphore = createSemaphore({ atOnce: 2, waiting: 20, waitMs: 5000 })
  return {
    costs: (query: CostQuery): Promise<Costs | null> => semaphore(() => readCosts(db, query)),
    spent: (): Promise<Spent | null> => semaphore(async () => (await db.query<Spent>(spentStatement))[0]!),
  }
}

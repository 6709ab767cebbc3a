import { createLanes } from '#shared/lanes.ts'
import type { Db } from './pool.ts'

/** By what costs may be summed up, and its SQL. */
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
  /** Decimals, exact. */
  cost_usd: string
  /** The part of it that nobody has confirmed. */
  estimated_usd: string
}
/** With the groups that were asked for; `key` is a uuid, `day` an ISO date, UTC. */
export type CostRow = CostSums & Partial<Record<CostGroup, string>>

export type CostQuery = {
  groupBy: CostGroup[]
  /** Of hours that begin from `from` on and before `to`. */
  from: Date
  to: Date
  /** At most so many rows; the totals are of all. */
  limit: number
}
export type Costs = { rows: CostRow[]; totals: CostSums; truncated: boolean }

const TOKENS = ['calls', 'input_tokens', 'output_tokens', 'cache_read_tokens', 'cache_write_tokens'] as const
const dollars = (sum: string) => `trim_scale(coalesce(${sum}, 0))::text`
// The counts are whole and far below 2^53.
const SUMS = [
  ...TOKENS.map(name => `coalesce(sum(${name}), 0)::float8 AS ${name}`),
  ...['cost_usd', 'estimated_usd'].map(name => `${dollars(`sum(${name})`)} AS ${name}`),
].join(', ')

function statement(groups: CostGroup[]) {
  const named = groups.map(name => `${GROUPS[name]} AS "${name}", `).join('')
  // The totals come with the same reading, before the groups, of which there may be none.
  const columns = groups.map(name => GROUPS[name]).join(', ')
  const order = groups.includes('day') ? ['"day"', 'sum(cost_usd) DESC'] : ['sum(cost_usd) DESC']
  const grouped = `GROUP BY GROUPING SETS ((${columns}), ())
      ORDER BY ${[`GROUPING(${columns}) DESC`, ...order, ...groups.map(name => `"${name}"`)].join(', ')} LIMIT $3`
  return {
    name: `rollups_costs_${groups.join('_')}`,
    text: `SELECT ${named}${SUMS} FROM cost_rollups WHERE hour >= $1 AND hour < $2 ${columns ? grouped : 'LIMIT $3'}`,
  }
}

/** By day, if that was asked for, then the dearest first. */
async function readCosts(db: Db, { groupBy, from, to, limit }: CostQuery): Promise<Costs> {
  // In a fixed order, so that there are few statements.
  const groups = COST_GROUPS.filter(name => groupBy.includes(name))
  const [totals, ...rows] = await db.query<CostRow>(statement(groups), [from, to, limit + 2])
  const { calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, estimated_usd } = totals!
  return {
    rows: groups.length > 0 ? rows.slice(0, limit) : [totals!],
    totals: { calls, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, cost_usd, estimated_usd },
    truncated: rows.length > limit,
  }
}

export type Spent = { today_usd: string; month_usd: string; total_usd: string }

/** Today, this month (UTC) and ever. The boundaries are computed once, which is most of the work when it is not. */
const spentStatement = {
  name: 'rollups_spent',
  text: `WITH since AS MATERIALIZED (SELECT date_trunc('day', now(), 'UTC') AS day, date_trunc('month', now(), 'UTC') AS month)
    SELECT ${dollars('sum(r.cost_usd) FILTER (WHERE r.hour >= since.day)')} AS today_usd,
      ${dollars('sum(r.cost_usd) FILTER (WHERE r.hour >= since.month)')} AS month_usd,
      ${dollars('sum(r.cost_usd)')} AS total_usd
    FROM since CROSS JOIN cost_rollups r`,
}

/**
 * What is read grows with the time that is asked for: two at a time, so that whoever asks for years does not take the
 * connections of those who submit.
 * @returns functions that resolve to null if too many wait already
 */
export function createCostReader(db: Db) {
  const lanes = createLanes({ atOnce: 2, waiting: 20, waitMs: 5000 })
  return {
    costs: (query: CostQuery): Promise<Costs | null> => lanes(() => readCosts(db, query)),
    spent: (): Promise<Spent | null> => lanes(async () => (await db.query<Spent>(spentStatement))[0]!),
  }
}

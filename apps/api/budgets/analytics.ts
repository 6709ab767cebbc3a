import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { COST_GROUPS, type CostGroup, type CostRow, createCostReader } from '#shared/db/rollups.ts'
import { toWire } from '#shared/ids.ts'
import { now } from '#shared/process/clock.ts'
import type { ApiDeps } from '../deps.ts'
import { serverBusy } from '../http/concurrency-limit.ts'
import { signedDollarsText } from '../http/dollars.ts'
import { invalidQuery } from '../http/invalid-field.ts'
import { timestamp } from '../http/schemas.ts'
import { parseTimestamp } from '../http/timestamps.ts'

const MAX_ROWS = 10_000
const DEFAULT_DAYS = 30
const DAY_MS = 86_400_000
const TIME_RULE = 'must be an ISO 8601 date or time, such as 2026-01-31 or 2026-01-31T12:00:00Z'

const sums = {
  calls: Type.Integer({ description: 'The number of provider calls that have ended.' }),
  input_tokens: Type.Integer(),
  output_tokens: Type.Integer(),
  cache_read_tokens: Type.Integer(),
  cache_write_tokens: Type.Integer(),
  reasoning_tokens: Type.Integer({ description: 'Part of `output_tokens`.' }),
  cost_usd: signedDollarsText('Negative if an estimate of an earlier hour was corrected in this one.'),
  estimated_usd: signedDollarsText('The part of `cost_usd` that is an upper bound, because the usage is unknown.'),
}
const groups = Object.fromEntries(
  COST_GROUPS.map(name => [name, Type.Optional(Type.String(name === 'day' ? { format: 'date' } : {}))]),
)

const costJson = ({ key, ...row }: CostRow) => ({ ...row, ...(key !== undefined && { key: toWire('key', key) }) })

/** Costs, counted in the hour in which they became known. */
export const analytics: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  const reader = createCostReader(db)

  app.get(
    '/api/v1/analytics/costs',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['analytics'],
        summary: 'Read costs',
        description: `Rows are sorted by day, if they are grouped by it, then by cost, highest first. At most ${MAX_ROWS} rows. Calls in flight are not included: see GET /api/v1/budgets.`,
        querystring: Type.Object(
          {
            group_by: Type.String({
              default: '',
              examples: ['provider,day'],
              description: `Any of ${COST_GROUPS.join(', ')}, separated by commas. Empty: one row for everything.`,
            }),
            from: Type.Optional(
              Type.String({
                description: `ISO 8601 date or time, by default in UTC. Costs are counted by whole hours. Default: ${DEFAULT_DAYS} days before \`to\`.`,
              }),
            ),
            to: Type.Optional(
              Type.String({ description: 'ISO 8601 date or time. A date includes that day. Default: now.' }),
            ),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            from: timestamp,
            to: timestamp,
            data: Type.Array(Type.Object({ ...groups, ...sums })),
            totals: Type.Object(sums, { description: 'Totals of all rows, including those that were left out.' }),
            truncated: Type.Boolean({ description: 'Whether rows were left out.' }),
          }),
        },
      },
    },
    async ({ query }) => {
      const to = query.to === undefined ? new Date(now()) : parseTimestamp(query.to, 'end')
      if (!to) throw invalidQuery('to', TIME_RULE)
      const from =
        query.from === undefined ? new Date(to.getTime() - DEFAULT_DAYS * DAY_MS) : parseTimestamp(query.from, 'start')
      if (!from) throw invalidQuery('from', TIME_RULE)
      if (from > to) throw invalidQuery('from', 'must not be after `to`')
      const costs = await reader.costs({ groupBy: parseGroups(query.group_by), from, to, limit: MAX_ROWS })
      if (!costs) throw serverBusy()
      const { rows, totals, truncated } = costs
      return { from: from.toISOString(), to: to.toISOString(), data: rows.map(costJson), totals, truncated }
    },
  )

  app.get(
    '/cost',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['analytics'],
        summary: 'Read the costs of today, this month and all time',
        description: 'Days and months follow UTC.',
        response: {
          200: Type.Object({
            today_usd: signedDollarsText(),
            month_usd: signedDollarsText(),
            total_usd: signedDollarsText(),
          }),
        },
      },
    },
    async () => {
      const spent = await reader.spent()
      if (!spent) throw serverBusy()
      return spent
    },
  )
}

function parseGroups(text: string): CostGroup[] {
  const names = text.split(',').filter(Boolean)
  const isKnown = (name: string): name is CostGroup => (COST_GROUPS as string[]).includes(name)
  if (!names.every(isKnown))
    throw invalidQuery('group_by', `must be a list of ${COST_GROUPS.join(', ')}, separated by commas`, {
      allowed: COST_GROUPS,
    })
  return names
}

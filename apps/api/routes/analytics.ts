import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { COST_GROUPS, type CostGroup, type CostRow, createCostReader } from '#shared/db/rollups.ts'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { signedDollarsText } from '../dollars.ts'
import { parseMoment } from '../moments.ts'

const MOST_ROWS = 10_000
const DEFAULT_DAYS = 30
const DAY_MS = 86_400_000
/** Seconds after which a client that was turned away should ask again. */
const AGAIN_SECONDS = 2

const sums = {
  calls: Type.Integer({ description: 'Provider calls that have ended.' }),
  input_tokens: Type.Integer(),
  output_tokens: Type.Integer(),
  cache_read_tokens: Type.Integer(),
  cache_write_tokens: Type.Integer(),
  cost_usd: signedDollarsText('Below 0 where an estimate was corrected later than it was counted.'),
  estimated_usd: signedDollarsText(
    'The part of it that nobody has confirmed: the most that those calls can have cost.',
  ),
}
const groups = Object.fromEntries(
  COST_GROUPS.map(name => [name, Type.Optional(Type.String(name === 'day' ? { format: 'date' } : {}))]),
)

const costJson = ({ key, ...row }: CostRow) => ({ ...row, ...(key !== undefined && { key: toWire('key', key) }) })

const busy = () => new SluiceError('server_busy', undefined, { retryAfter: AGAIN_SECONDS })
const refuse = (field: string, why: string, more: object = {}) =>
  new SluiceError('invalid_request', `${field} ${why}`, { context: { field, in: 'querystring', ...more } })

/** What was spent, summed up by the hour in which it became known. */
export const analytics: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  const reader = createCostReader(db)

  app.get(
    '/api/v1/analytics/costs',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['analytics'],
        summary: 'What was spent, on what',
        description: `By day, if that is asked for, then the dearest first; at most ${MOST_ROWS} rows. Calls that are under way are not in it: see GET /api/v1/budgets.`,
        querystring: Type.Object(
          {
            group_by: Type.String({
              default: '',
              examples: ['provider,day'],
              description: `Any of ${COST_GROUPS.join(', ')}, comma-separated; empty: one row for everything.`,
            }),
            from: Type.Optional(
              Type.String({
                description: `ISO date or time, UTC unless it says otherwise; counted by whole hours. Default: ${DEFAULT_DAYS} days before the end.`,
              }),
            ),
            to: Type.Optional(Type.String({ description: 'The same; a date includes that day. Default: now.' })),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            from: Type.String({ format: 'date-time' }),
            to: Type.String({ format: 'date-time' }),
            data: Type.Array(Type.Object({ ...groups, ...sums })),
            totals: Type.Object(sums, { description: 'Of everything, also of what `truncated` left out.' }),
            truncated: Type.Boolean(),
          }),
        },
      },
    },
    async ({ query }) => {
      const to = query.to === undefined ? new Date() : parseMoment(query.to, 'end')
      if (!to) throw refuse('/to', 'is not an ISO date or time')
      const from =
        query.from === undefined ? new Date(to.getTime() - DEFAULT_DAYS * DAY_MS) : parseMoment(query.from, 'start')
      if (!from) throw refuse('/from', 'is not an ISO date or time')
      if (from > to) throw refuse('/from', 'is after /to')
      const costs = await reader.costs({ groupBy: parseGroups(query.group_by), from, to, limit: MOST_ROWS })
      if (!costs) throw busy()
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
        summary: 'What was spent today, this month and ever',
        description: 'Days and months of UTC.',
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
      if (!spent) throw busy()
      return spent
    },
  )
}

function parseGroups(text: string): CostGroup[] {
  const names = text.split(',').filter(Boolean)
  const isKnown = (name: string): name is CostGroup => (COST_GROUPS as string[]).includes(name)
  if (!names.every(isKnown)) throw refuse('/group_by', 'holds something else', { allowed: COST_GROUPS })
  return names
}

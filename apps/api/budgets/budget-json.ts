import { Type } from 'typebox'
import { BUDGET_WINDOWS, type Budget } from '#shared/db/budgets.ts'
import { toWire } from '#shared/ids.ts'
import { dollarsInput, dollarsText } from '../http/dollars.ts'
import { nullable, timestamp } from '../http/schemas.ts'

export const BUDGET_WINDOW = Type.Enum(BUDGET_WINDOWS, {
  description: '`request`: each call separately. `total`: no time limit.',
})
export const BUDGET_LIMIT = dollarsInput(
  'Dollars, at least 0, with up to 12 decimals. A number may have up to 15 digits; a string is always exact.',
)

export const SCOPE = 'One of `global`, `key:<id of a key>`, `kind:<job kind>`, `provider:<name>`.'
const SHOWN_SCOPE = `${SCOPE} Or \`batch:<id>\`: the maximum cost of a batch, until it ends.`

export const budgetSchema = Type.Object({
  id: Type.String({ examples: ['budget_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
  scope: Type.String({ description: SHOWN_SCOPE }),
  window: Type.Enum(BUDGET_WINDOWS),
  limit_usd: dollarsText(),
  reserved_usd: dollarsText('The maximum cost of calls in flight. 0 for the window `request`, as is `spent_usd`.'),
  spent_usd: dollarsText(),
  remaining_usd: dollarsText('Never negative.'),
  resets_at: nullable(timestamp, { description: 'When the present window ends. null for `total` and `request`.' }),
})

export const budgetJson = ({ id, scope, window, resets_at, ...amounts }: Budget) => ({
  id: toWire('budget', id),
  scope: scope.replace(/^(key|batch):(.*)$/, (_, sort: string, id: string) => `${sort}:${toWire(sort, id)}`),
  window,
  limit_usd: amounts.limit_usd,
  reserved_usd: amounts.reserved_usd,
  spent_usd: amounts.spent_usd,
  remaining_usd: amounts.remaining_usd,
  resets_at: resets_at?.toISOString() ?? null,
})

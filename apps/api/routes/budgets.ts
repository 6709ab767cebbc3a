import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { type Budget, deleteBudget, listBudgets, putBudget, SPANS } from '#shared/db/budgets.ts'
import { isLiveKey } from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import { dollarsInput, dollarsText, exactDollars } from '../dollars.ts'

const SCOPE = 'One of `global`, `key:<id of a key>`, `kind:<job kind>`, `provider:<name>`.'
const SHOWN_SCOPE = `${SCOPE} Or \`batch:<id>\`: what a batch may cost at most, as long as it lives.`

const budgetSchema = Type.Object({
  id: Type.String({ examples: ['budget_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
  scope: Type.String({ description: SHOWN_SCOPE }),
  window: Type.Enum(SPANS),
  limit_usd: dollarsText(),
  reserved_usd: dollarsText('What calls that are under way may cost at most. 0 for `request`, like spent_usd.'),
  spent_usd: dollarsText(),
  remaining_usd: dollarsText('Never below 0.'),
  resets_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
    description: 'When the present window ends; null for `total` and `request`.',
  }),
})

const budgetJson = ({ id, scope, span, resets_at, ...amounts }: Budget) => ({
  id: toWire('budget', id),
  scope: scope.replace(/^(key|batch):(.*)$/, (_, sort: string, id: string) => `${sort}:${toWire(sort, id)}`),
  window: span,
  limit_usd: amounts.limit_usd,
  reserved_usd: amounts.reserved_usd,
  spent_usd: amounts.spent_usd,
  remaining_usd: amounts.remaining_usd,
  resets_at: resets_at?.toISOString() ?? null,
})

const refuse = (field: string, why: string, allowed?: readonly string[]) =>
  new SluiceError('invalid_request', `${field} ${why}`, { context: { field, ...(allowed && { allowed }) } })

/** What may be spent, by whom and in what time. */
export const budgets: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, jobs }) => {
  app.put(
    '/api/v1/budgets',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['budgets'],
        summary: 'Set what may be spent',
        description:
          'A call is only made if the most that it can cost fits in every budget that applies to it. The same scope and window again replaces the limit, at once: 0, or anything below what is spent, stops all spending there; calls that are under way end. A new budget starts with what has been spent since its window began. Windows follow UTC.',
        body: Type.Object(
          {
            scope: Type.String({ maxLength: 200, description: SCOPE }),
            window: Type.Enum(SPANS, { description: '`request`: each call by itself; `total`: for ever.' }),
            limit_usd: dollarsInput(
              'Dollars, at least 0, with up to 12 decimals. As a number it may have 15 digits; a string is exact in any case.',
            ),
          },
          { additionalProperties: false, examples: [{ scope: 'global', window: 'month', limit_usd: '250.00' }] },
        ),
        response: { 200: budgetSchema },
      },
    },
    async ({ body }) => {
      const limitUsd = exactDollars(body.limit_usd)
      if (limitUsd === null)
        throw refuse('/limit_usd', 'is not a decimal with up to 12 places that can be kept exactly')
      const scope = await storedScope(body.scope)
      return budgetJson(await putBudget(db, { scope, span: body.window, limitUsd }))
    },
  )

  /** @throws invalid_request if there is nothing that it could apply to */
  async function storedScope(scope: string): Promise<string> {
    if (scope === 'global') return scope
    const [sort, name = ''] = scope.split(/:(.*)/s)
    if (sort === 'kind') {
      if (!jobs.has(name))
        throw refuse(
          '/scope',
          'names no job kind',
          [...jobs.keys()].map(kind => `kind:${kind}`),
        )
      return scope
    }
    if (sort === 'provider') {
      const known: string[] = PROVIDER_NAMES
      if (!known.includes(name))
        throw refuse(
          '/scope',
          'names no provider',
          known.map(one => `provider:${one}`),
        )
      return scope
    }
    if (sort === 'key') {
      const id = fromWire('key', name)
      if (id === null || !(await isLiveKey(db, id))) throw refuse('/scope', 'names no key')
      return `key:${id}`
    }
    throw refuse('/scope', 'is not known', ['global', 'key:<id>', 'kind:<kind>', 'provider:<name>'])
  }

  app.get(
    '/api/v1/budgets',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['budgets'],
        summary: 'List the budgets, with what is left of them',
        response: { 200: Type.Object({ data: Type.Array(budgetSchema) }) },
      },
    },
    async () => ({ data: (await listBudgets(db)).map(budgetJson) }),
  )

  app.delete(
    '/api/v1/budgets/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['budgets'],
        summary: 'Take a budget away',
        description: 'Answers with the budget as it was.',
        params: Type.Object({ id: Type.String() }),
        response: { 200: budgetSchema },
      },
    },
    async ({ params }) => {
      const id = fromWire('budget', params.id)
      const budget = id && (await deleteBudget(db, id))
      if (!budget) throw new SluiceError('budget_not_found', undefined, { context: { id: params.id } })
      return budgetJson(budget)
    },
  )
}

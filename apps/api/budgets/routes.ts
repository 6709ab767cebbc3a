import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { deleteBudget, listBudgets, putBudget } from '#shared/db/budgets.ts'
import { isLiveKey } from '#shared/db/keys.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire } from '#shared/ids.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import { readDollars } from '../http/dollars.ts'
import { invalidField } from '../http/invalid-field.ts'
import { BUDGET_LIMIT, BUDGET_WINDOW, budgetJson, budgetSchema, SCOPE } from './budget-json.ts'

const SCOPES = ['global', 'key:<id>', 'kind:<kind>', 'provider:<name>']

const invalidScope = (rule: string, allowed?: readonly string[]) => invalidField('/scope', rule, allowed && { allowed })

/** Limits of spending per scope and window. */
export const budgets: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, jobs, providerRegistry }) => {
  app.put(
    '/api/v1/budgets',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['budgets'],
        summary: 'Set a budget',
        description:
          'A call is made only if its maximum cost fits into every budget that applies to it. Setting a budget again for the same scope and window replaces its limit immediately. A limit of 0, or below the amount spent, stops all spending in the scope; calls in flight finish. A new budget includes the spending since its window began. Windows follow UTC.',
        body: Type.Object(
          {
            scope: Type.String({ maxLength: 200, description: SCOPE }),
            window: BUDGET_WINDOW,
            limit_usd: BUDGET_LIMIT,
          },
          { additionalProperties: false, examples: [{ scope: 'global', window: 'month', limit_usd: '250.00' }] },
        ),
        response: { 200: budgetSchema },
      },
    },
    async ({ body }) => {
      const limitUsd = readDollars(body.limit_usd, '/limit_usd')
      const scope = await storedScope(body.scope)
      return budgetJson(await putBudget(db, { scope, window: body.window, limitUsd }))
    },
  )

  /** The scope as it is stored. @throws SluiceError invalid_request, if what it names does not exist */
  async function storedScope(scope: string): Promise<string> {
    if (scope === 'global') return scope
    const [sort, name = ''] = scope.split(/:(.*)/s)
    if (sort === 'kind') {
      if (!jobs.has(name))
        throw invalidScope(
          'names no job kind',
          [...jobs.keys()].map(kind => `kind:${kind}`),
        )
      return scope
    }
    if (sort === 'provider') {
      const known = [...new Set<string>([...PROVIDER_NAMES, ...providerRegistry.current().sources.keys()])]
      if (!known.includes(name))
        throw invalidScope(
          'names no provider',
          known.map(one => `provider:${one}`),
        )
      return scope
    }
    if (sort === 'key') {
      const id = fromWire('key', name)
      if (id === null || !(await isLiveKey(db, id)))
        throw invalidScope('names no live key; GET /api/v1/keys lists them')
      return `key:${id}`
    }
    throw invalidScope(`must be one of ${SCOPES.join(', ')}`, SCOPES)
  }

  app.get(
    '/api/v1/budgets',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['budgets'],
        summary: 'List budgets',
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
        summary: 'Delete a budget',
        description: 'Returns the deleted budget.',
        params: Type.Object({ id: Type.String() }),
        response: { 200: budgetSchema },
      },
    },
    async ({ params }) => {
      const id = fromWire('budget', params.id)
      const budget = id && (await deleteBudget(db, id))
      if (!budget)
        throw new SluiceError('budget_not_found', `There is no budget "${params.id.slice(0, 100)}".`, {
          context: { field: '/id', id: params.id },
        })
      return budgetJson(budget)
    },
  )
}

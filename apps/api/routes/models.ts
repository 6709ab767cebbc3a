import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { contextWindow, maxOutputTokens, type Operation, operationOf } from '#shared/models/models.ts'
import { fromMillionths } from '#shared/models/picodollars.ts'
import type { Price } from '#shared/models/prices.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'

const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) => Type.Union([schema, Type.Null()])
const decimal = (description?: string) =>
  Type.String({ pattern: '^\\d+(\\.\\d+)?$', ...(description && { description }) })

const modelSchema = Type.Object({
  provider: Type.Enum(PROVIDER_NAMES),
  model: Type.String({
    description: 'With `*` at the end: every model whose name begins so and that is not listed itself.',
  }),
  operation: nullable(
    Type.Enum(['chat', 'embed'], {
      description:
        '`chat`: it writes. `embed`: it makes vectors, for the kind `embed`. null: as the rest of the name says.',
    }),
  ),
  context_window: nullable(Type.Integer({ description: 'Tokens; null: not known.' })),
  max_output_tokens: nullable(Type.Integer({ description: 'null: not known.' })),
  price: Type.Object({
    bands: Type.Array(
      Type.Object({
        above_prompt_tokens: Type.Integer({ description: 'The band is that of longer prompts than this.' }),
        input: decimal(),
        output: decimal(),
        cache_read: decimal(),
        cache_write: decimal(),
      }),
      { minItems: 1, description: 'Dollars per million tokens, by the length of the whole prompt.' },
    ),
    batch: decimal('The share of these prices that a batch costs.'),
    effective_from: nullable(Type.String({ format: 'date', description: 'null: since ever.' })),
    hours: nullable(
      Type.Object({ from: Type.String(), to: Type.String() }, { description: 'Of the day, UTC; null: all day.' }),
    ),
    version: Type.String({ description: 'Kept with every cost that is computed with it.' }),
  }),
  configured: Type.Boolean({ description: 'Whether its provider is configured here.' }),
  default: Type.Boolean({ description: 'Whether it is asked when a task names the provider and no model.' }),
})

/** The catalogue: models whose price is known, at the price that holds now. */
export const models: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { config, prices }) => {
  const configured = new Map(
    config.providers.filter(one => one.explicit).map(one => [one.name, [one.model, one.embeds?.model ?? null]]),
  )

  function list() {
    const names = prices.models().map(({ provider, model }) => ({ provider: provider as string, model }))
    // A default may go by a name that the catalogue knows and does not list, such as a dated one.
    for (const [provider, models] of configured)
      for (const model of models)
        if (model !== null && !names.some(one => one.provider === provider && one.model === model))
          names.push({ provider, model })
    return names
      .flatMap(({ provider, model }) => {
        const price = prices.priceOf(provider, model)
        return price ? [modelJson(provider, model, price)] : []
      })
      .sort((a, b) => order(a.provider) - order(b.provider) || (a.model < b.model ? -1 : 1))
  }

  function operation(provider: string, model: string): Operation | null {
    if (model.endsWith('*')) return null
    return configured.get(provider)?.[1] === model ? 'embed' : operationOf(model)
  }

  const modelJson = (provider: string, model: string, price: Price) => ({
    provider: provider as (typeof PROVIDER_NAMES)[number],
    model,
    operation: operation(provider, model),
    context_window: contextWindow(provider, model),
    max_output_tokens: maxOutputTokens(provider, model),
    price: priceJson(price),
    configured: configured.has(provider),
    default: configured.get(provider)?.includes(model) ?? false,
  })

  app.get(
    '/api/v1/models',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        summary: 'The models whose price is known',
        description:
          'Others can be given a price in the setting `PRICES`. That a model is listed does not say that its provider still serves it.',
        querystring: Type.Object(
          { provider: Type.Optional(Type.Enum(PROVIDER_NAMES, { description: 'Only this provider’s.' })) },
          { additionalProperties: false },
        ),
        response: { 200: Type.Object({ data: Type.Array(modelSchema) }) },
      },
    },
    async ({ query }) => ({
      data: list().filter(one => query.provider === undefined || one.provider === query.provider),
    }),
  )
}

const order = (provider: string) => (PROVIDER_NAMES as string[]).indexOf(provider)

const priceJson = ({ bands, batch, from, hours, version }: Price) => ({
  bands: bands.map(({ above, input, output, cacheRead, cacheWrite }) => ({
    above_prompt_tokens: above,
    input: fromMillionths(input),
    output: fromMillionths(output),
    cache_read: fromMillionths(cacheRead),
    cache_write: fromMillionths(cacheWrite),
  })),
  batch: fromMillionths(batch),
  effective_from: Number.isFinite(from) ? new Date(from).toISOString().slice(0, 10) : null,
  hours: hours && { from: hours[0], to: hours[1] },
  version,
})

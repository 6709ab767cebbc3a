import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { contextWindow, maxOutputTokens, type Operation, operationOf } from '#shared/models/models.ts'
import { fromMillionths } from '#shared/models/picodollars.ts'
import type { Price } from '#shared/models/prices.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import { nullable } from '../http/schemas.ts'

const decimal = (description?: string) =>
  Type.String({ pattern: '^\\d+(\\.\\d+)?$', ...(description && { description }) })

const modelSchema = Type.Object({
  provider: Type.Enum(PROVIDER_NAMES),
  model: Type.String({
    description: 'A name that ends in `*` stands for every model that begins with it and is not listed itself.',
  }),
  operation: nullable(
    Type.Enum(['chat', 'embed'], {
      description:
        '`chat`: generates text. `embed`: creates embeddings, for the kind `embed`. null: depends on the rest of the name.',
    }),
  ),
  context_window: nullable(Type.Integer({ description: 'Tokens. null: unknown.' })),
  max_output_tokens: nullable(Type.Integer({ description: 'Tokens. null: unknown.' })),
  price: Type.Object({
    bands: Type.Array(
      Type.Object({
        above_prompt_tokens: Type.Integer({ description: 'The band applies to prompts with more tokens than this.' }),
        input: decimal(),
        output: decimal(),
        cache_read: decimal(),
        cache_write: decimal(),
      }),
      { minItems: 1, description: 'Dollars per million tokens, by the length of the prompt.' },
    ),
    batch: decimal('The price in a provider’s batch, as a fraction of these prices.'),
    effective_from: nullable(Type.String({ format: 'date', description: 'null: always.' })),
    hours: nullable(
      Type.Object({ from: Type.String(), to: Type.String() }, { description: 'Hours of the day, UTC. null: all day.' }),
    ),
    version: Type.String({ description: 'Stored with every cost that is computed with this price.' }),
  }),
  configured: Type.Boolean({ description: 'Whether the provider is configured.' }),
  default: Type.Boolean({ description: 'Whether the model is used if a task names the provider but no model.' }),
})

/** The catalogue: models with a known price, at the present price. */
export const models: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { config, prices }) => {
  const configured = new Map(
    config.providers.filter(one => one.explicit).map(one => [one.name, [one.model, one.embeds?.model ?? null]]),
  )

  function list() {
    const names = prices.models().map(({ provider, model }) => ({ provider: provider as string, model }))
    // A default model may have a name that the catalogue accepts but does not list, such as a dated one.
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
        summary: 'List models with a known price',
        description:
          'Set the price of another model in the setting `PRICES`. The provider may have withdrawn a listed model.',
        querystring: Type.Object(
          { provider: Type.Optional(Type.Enum(PROVIDER_NAMES, { description: 'Only models of this provider.' })) },
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

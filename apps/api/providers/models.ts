import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { declaredModel } from '#shared/models/declared.ts'
import { contextWindow, maxOutputTokens, type Operation, operationOf } from '#shared/models/models.ts'
import { fromMillionths } from '#shared/models/picodollars.ts'
import type { Price } from '#shared/models/prices.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidQuery } from '../http/invalid-field.ts'
import { nullable } from '../http/schemas.ts'

const decimal = (description?: string) =>
  Type.String({ pattern: '^\\d+(\\.\\d+)?$', ...(description && { description }) })

const modelSchema = Type.Object({
  provider: Type.String(),
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
export const models: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { providerRegistry, prices }) => {
  type Defaults = ReadonlyMap<string, readonly (string | null)[]>

  function list() {
    const explicit = providerRegistry.current().providers.filter(one => one.explicit)
    const configured: Defaults = new Map(explicit.map(one => [one.name, [one.model, one.embeds?.model ?? null]]))
    const listed = prices.models()
    const names = new Map(listed.map(({ provider, model }) => [`${provider}/${model}`, { provider, model }]))
    const add = (provider: string, model: string) => names.set(`${provider}/${model}`, { provider, model })
    for (const { name, model, embeds, models, catalogue, lists } of explicit) {
      // A default model may have a name that the catalogue accepts but does not list, such as a dated one.
      for (const one of [model, embeds?.model, ...Object.keys(models ?? {})]) if (one && one !== '*') add(name, one)
      if (models || lists || catalogue === undefined || catalogue === name) continue
      for (const one of listed) if (one.provider === catalogue) add(name, one.model)
    }
    return [...names.values()]
      .flatMap(({ provider, model }) => {
        const price = prices.priceOf(provider, model)
        return price ? [modelJson(configured, provider, model, price)] : []
      })
      .sort((a, b) => order(a.provider) - order(b.provider) || (a.model < b.model ? -1 : 1))
  }

  function operation(configured: Defaults, provider: string, model: string): Operation | null {
    if (model.endsWith('*')) return null
    return configured.get(provider)?.[1] === model || declaredModel(provider, model).embeds
      ? 'embed'
      : operationOf(model)
  }

  const modelJson = (configured: Defaults, provider: string, model: string, price: Price) => ({
    provider,
    model,
    operation: operation(configured, provider, model),
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
          { provider: Type.Optional(Type.String({ maxLength: 100, description: 'Only models of this provider.' })) },
          { additionalProperties: false },
        ),
        response: { 200: Type.Object({ data: Type.Array(modelSchema) }) },
      },
    },
    async ({ query: { provider } }) => {
      if (provider === undefined) return { data: list() }
      const known = new Set<string>([...PROVIDER_NAMES, ...providerRegistry.current().sources.keys()])
      if (!known.has(provider)) throw invalidQuery('provider', `must be one of ${[...known].join(', ')}`)
      return { data: list().filter(one => one.provider === provider) }
    },
  )
}

/** Providers of the catalogue first, in its order. */
function order(provider: string): number {
  const index = (PROVIDER_NAMES as string[]).indexOf(provider)
  return index < 0 ? PROVIDER_NAMES.length : index
}

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

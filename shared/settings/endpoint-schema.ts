import { type Static, Type } from 'typebox'
import { FORMATS, PRESETS } from '#shared/models/presets.ts'
import { priceSchema } from '#shared/models/price-overrides.ts'
import { PROVIDER_NAME, PROVIDER_NAMES } from '#shared/models/providers.ts'
import { MAX_LIMIT } from './providers.ts'

/** The schema of provider definitions: entries of `PROVIDERS_FILE`, and bodies of `PUT /api/v1/providers/{name}`. */

/** Names of variables with keys. Other variables must not be sent to an address that a definition names. */
export const KEY_VARIABLE = '^(?!AWS_SECRET|AWS_SESSION)[A-Za-z0-9_]{0,100}(KEY|TOKEN)[A-Za-z0-9_]{0,100}$'

/** Without a slash, which separates a provider from its model. */
const ALIAS_NAME = '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'

const closed = { additionalProperties: false }
const limit = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: MAX_LIMIT, description: `${description} 0: no calls.` }))

export const limitsDefinition = Type.Object(
  {
    rpm: limit('Requests per minute.'),
    tpm: limit('Input and output tokens per minute.'),
    itpm: limit('Input tokens per minute.'),
    otpm: limit('Output tokens per minute.'),
    concurrency: limit('Concurrent calls.'),
  },
  { ...closed, description: 'Rate limits; absent: none.' },
)

/** JSON and YAML may hold a rate as a number, which becomes the decimal as written. */
const rate = Type.Union([Type.String(), Type.Number({ minimum: 0 })])
const rates = {
  input: rate,
  output: rate,
  cache_read: Type.Optional(rate),
  cache_write: Type.Optional(rate),
}
const priceDefinition = Type.Object(
  {
    ...rates,
    batch: Type.Optional(rate),
    from: priceSchema.properties.from,
    bands: Type.Optional(
      Type.Array(
        Type.Object({ above: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }), ...rates }, closed),
      ),
    ),
  },
  { ...closed, description: 'Dollars per million tokens, as in the setting `PRICES`.' },
)

const tokens = (description: string) => Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000, description }))
const ability = (description: string) => Type.Optional(Type.Boolean({ description: `${description} Absent: unknown.` }))

export const modelDefinition = Type.Object(
  {
    upstream: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2048,
        description:
          'The name that is sent to the endpoint: a deployment of Azure, an inference profile of Bedrock. Absent: the name of the model.',
      }),
    ),
    embeds: Type.Optional(Type.Boolean({ description: 'It creates embeddings and generates no text.' })),
    tools: ability('It calls tools.'),
    images: ability('It reads images.'),
    schema: ability('It can be held to a JSON Schema.'),
    thinking: ability('It reasons before it answers.'),
    context: tokens('Context window, tokens.'),
    output: tokens('Maximum output of one answer, tokens.'),
    price: Type.Optional(priceDefinition),
    limits: Type.Optional(limitsDefinition),
  },
  closed,
)

const text = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 2048, description }))

export const endpointDefinition = Type.Object(
  {
    preset: Type.Optional(
      Type.Enum(Object.keys(PRESETS) as (keyof typeof PRESETS)[], {
        description: 'A known endpoint. It sets `format`, `base_url`, `key_env` and `catalogue` unless they are given.',
      }),
    ),
    format: Type.Optional(Type.Enum([...FORMATS], { description: 'The wire format. Required without a preset.' })),
    base_url: text('Address of the endpoint, beginning with http:// or https://.'),
    key_env: Type.Optional(
      Type.String({
        pattern: KEY_VARIABLE,
        description:
          'The environment variable that holds the key. Every process needs it. Absent: no key; for Bedrock and Vertex, the credentials of the environment.',
      }),
    ),
    catalogue: Type.Optional(
      Type.Enum(PROVIDER_NAMES, {
        description: 'The provider of the built-in catalogue that has the models and prices of this endpoint.',
      }),
    ),
    region: text('Region of Bedrock (`us-east-1`) or Vertex (`europe-west1`, `global`).'),
    project: text('Project of Vertex.'),
    api_version: text('API version of Azure, such as `2024-10-21`.'),
    model: text('The default model. Absent: the first of `models`, or the first that a server without a key lists.'),
    embed_model: text('The default embedding model.'),
    models: Type.Optional(
      Type.Record(Type.String(), modelDefinition, {
        propertyNames: { minLength: 1, maxLength: 200 },
        description:
          'Its models by name, or by a prefix that ends in `*`. Absent: those of the catalogue, or those that a server without a key lists.',
      }),
    ),
    pool: Type.Optional(
      Type.String({
        pattern: PROVIDER_NAME,
        description: 'A name that stands for every endpoint of the pool: `<pool>/<model>` calls one of them.',
      }),
    ),
    weight: Type.Optional(
      Type.Number({
        minimum: 0,
        maximum: 1000,
        description:
          'Share of the calls among the endpoints that have the same model (default 1). 0: only if the others cannot answer.',
      }),
    ),
    limits: Type.Optional(limitsDefinition),
  },
  { ...closed, description: 'An endpoint of a provider.' },
)
export type EndpointDefinition = Static<typeof endpointDefinition>

const aliasTarget = Type.String({ minLength: 1, maxLength: 250, examples: ['anthropic/claude-haiku-5-5'] })
export const aliasDefinition = Type.Array(
  Type.Union([
    aliasTarget,
    Type.Object({ model: aliasTarget, weight: Type.Number({ minimum: 0, maximum: 1000 }) }, closed),
  ]),
  {
    minItems: 1,
    maxItems: 20,
    description: 'Models as `<provider>/<model>`: by order, or by weight if every entry has one.',
  },
)
export type AliasDefinition = Static<typeof aliasDefinition>

export const providersFile = Type.Object(
  {
    $schema: Type.Optional(Type.String()),
    providers: Type.Optional(
      Type.Record(Type.String(), endpointDefinition, {
        propertyNames: { pattern: PROVIDER_NAME },
        description: 'Endpoints by name. A name of the settings, such as `openai`, replaces that provider.',
      }),
    ),
    order: Type.Optional(
      Type.Array(Type.String({ pattern: PROVIDER_NAME }), {
        description:
          'Providers in order of preference; the others follow. Absent: the settings’ providers, then this file’s.',
      }),
    ),
    aliases: Type.Optional(
      Type.Record(Type.String(), aliasDefinition, {
        propertyNames: { pattern: ALIAS_NAME },
        description: 'Names of models that stand for others.',
      }),
    ),
  },
  { ...closed, title: 'Sluice PROVIDERS_FILE' },
)
export type ProvidersFile = Static<typeof providersFile>

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { generate } from '#shared/jobs/generate.ts'
import { contextWindow, maxOutputTokens, operationOf } from '#shared/models/models.ts'
import type { ApiDeps } from '../deps.ts'
import { surfaceOf } from '../http/error-formats.ts'
import { nullable } from '../http/schemas.ts'

const openAiModel = Type.Object({
  id: Type.String(),
  object: Type.Literal('model'),
  created: Type.Integer({ description: 'Always 0: the providers’ price lists have no dates.' }),
  owned_by: Type.String({ description: 'The provider.' }),
})

const anthropicModel = Type.Object({
  type: Type.Literal('model'),
  id: Type.String(),
  display_name: Type.String(),
  created_at: Type.String({ description: 'Always 1970: the providers’ price lists have no dates.' }),
  max_input_tokens: nullable(Type.Integer()),
  max_tokens: nullable(Type.Integer()),
  capabilities: Type.Null(),
  lifecycle: Type.Literal('active'),
  line: Type.Null(),
  deprecated_at: Type.Null(),
  retires_at: Type.Null(),
})

const page = Type.Object(
  {
    after_id: Type.Optional(Type.String({ maxLength: 300, description: 'Anthropic: models behind this one.' })),
    before_id: Type.Optional(Type.String({ maxLength: 300, description: 'Anthropic: models before this one.' })),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 1000, description: 'Anthropic: models per page; 20 by default.' }),
    ),
    beta: Type.Optional(Type.String({ description: 'Has no effect.' })),
  },
  { additionalProperties: false },
)

type Model = { id: string; provider: string; name: string }

/** `GET /v1/models` and `/v1/models/{id}` in the format of OpenAI or, with the header `anthropic-version`, of Anthropic. */
export const compatibleModels: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { prices, available, preflight } = deps

  /** The models that a request can name now. A name that several providers have is listed with each provider’s prefix. */
  function list(): Model[] {
    const priced = prices.models()
    const models = available().flatMap(({ name: provider, listed, defaultModel }) => {
      const names = listed ?? priced.filter(one => one.provider === provider).map(one => one.model)
      const all = new Set([...names, ...(defaultModel ? [defaultModel] : [])])
      return [...all].filter(one => !one.endsWith('*')).map(name => ({ provider, name }))
    })
    const providersOf = Map.groupBy(models, one => one.name)
    return models
      .map(one => ({ ...one, id: providersOf.get(one.name)!.length > 1 ? `${one.provider}/${one.name}` : one.name }))
      .toSorted((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** Any name that a request may use, also one that is not listed: dated, or with its provider. */
  function find(id: string): Model {
    const listed = list().find(one => one.id === id)
    if (listed) return listed
    preflight.checkModel({ operation: operationOf(id) ?? generate.operation }, { model: id }, '')
    const slash = id.indexOf('/')
    const prefix = id.slice(0, slash)
    const provider = available().find(one => one.name === prefix)
    return provider ? { id, provider: prefix, name: id.slice(slash + 1) } : { id, provider: 'sluice', name: id }
  }

  app.get(
    '/v1/models',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        summary: 'List models (OpenAI, Anthropic)',
        description:
          'The models of the configured providers, in OpenAI’s format or, with the header `anthropic-version`, in Anthropic’s.',
        querystring: page,
        response: {
          200: Type.Union([
            Type.Object({ object: Type.Literal('list'), data: Type.Array(openAiModel) }),
            Type.Object({
              data: Type.Array(anthropicModel),
              first_id: nullable(Type.String()),
              last_id: nullable(Type.String()),
              has_more: Type.Boolean(),
            }),
          ]),
        },
      },
    },
    async request => {
      const all = list()
      if (surfaceOf(request) === 'openai') return { object: 'list' as const, data: all.map(openAiJson) }
      const { models, hasMore } = pageOf(all, request.query)
      const data = models.map(anthropicJson)
      return { data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more: hasMore }
    },
  )

  // The names of some models contain slashes.
  app.get(
    '/v1/models/*',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['models'],
        summary: 'Get a model (OpenAI, Anthropic)',
        description: '404 `model_not_found` if no configured provider has it.',
        params: Type.Object({ '*': Type.String({ minLength: 1, maxLength: 300 }) }),
        response: { 200: Type.Union([openAiModel, anthropicModel]) },
      },
    },
    async request => {
      const model = find(request.params['*'])
      return surfaceOf(request) === 'openai' ? openAiJson(model) : anthropicJson(model)
    },
  )
}

/** @throws SluiceError invalid_request: an id that is not listed */
function pageOf(all: Model[], { after_id, before_id, limit = 20 }: Static<typeof page>) {
  const indexOf = (id: string, field: string) => {
    const index = all.findIndex(one => one.id === id)
    if (index >= 0) return index
    throw new SluiceError('invalid_request', `${field}: no such model`, { context: { param: field } })
  }
  if (before_id !== undefined) {
    const end = indexOf(before_id, 'before_id')
    const start = Math.max(0, end - limit)
    return { models: all.slice(start, end), hasMore: start > 0 }
  }
  const start = after_id === undefined ? 0 : indexOf(after_id, 'after_id') + 1
  return { models: all.slice(start, start + limit), hasMore: start + limit < all.length }
}

const openAiJson = ({ id, provider }: Model): Static<typeof openAiModel> => ({
  id,
  object: 'model',
  created: 0,
  owned_by: provider,
})

function anthropicJson({ id, provider, name }: Model): Static<typeof anthropicModel> {
  return {
    type: 'model',
    id,
    display_name: name,
    created_at: new Date(0).toISOString(),
    max_input_tokens: contextWindow(provider, name),
    max_tokens: maxOutputTokens(provider, name),
    capabilities: null,
    lifecycle: 'active',
    line: null,
    deprecated_at: null,
    retires_at: null,
  }
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ALL_MODELS } from '#shared/db/provider-limits.ts'
import { SluiceError } from '#shared/errors.ts'
import { PROVIDERS } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import {
  breakerSchema,
  fastest,
  modelHealthJson,
  modelHealthSchema,
  providerJson,
  providerSchema,
  stateOf,
} from '../provider-json.ts'

export const providerParams = Type.Object({ name: Type.String({ examples: ['anthropic'] }) })

/** How the providers do. */
export const providers: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { config, limits, fleet }) => {
  /** Those that this process or a live worker is configured for, in the order of the catalogue. */
  const configured = (reported: ReadonlyMap<string, unknown>) =>
    PROVIDERS.filter(
      ({ name }) => reported.has(name) || config.providers.some(one => one.name === name && one.explicit),
    )
  const defaultModel = (name: string) =>
    config.providers.find(one => one.name === name)?.model ??
    PROVIDERS.find(one => one.name === name)?.defaultModel ??
    null

  app.get(
    '/api/v1/providers',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['providers'],
        summary: 'The configured providers and how they do',
        description: 'As the calls of all workers show; a second old at most.',
        response: { 200: Type.Object({ data: Type.Array(providerSchema) }) },
      },
    },
    async () => {
      const state = await fleet.look()
      return {
        data: configured(state.workers).map(({ name }) => {
          const model = defaultModel(name)
          return providerJson(name, model, limits.of({ provider: name, model: model ?? ALL_MODELS }), state)
        }),
      }
    },
  )

  app.get(
    '/api/v1/providers/:name/health',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['providers'],
        summary: 'How the models of a provider do',
        description:
          'Those that have been called within a day, at most the 200 that were called last; a second old at most.',
        params: providerParams,
        response: {
          200: Type.Object({
            name: Type.String(),
            state: providerSchema.properties.state,
            workers: Type.Array(Type.Enum(['ok', 'failing', 'unreachable']), {
              description: 'What each worker’s own calls say.',
            }),
            models: Type.Array(modelHealthSchema),
          }),
        },
      },
    },
    async request => {
      const { name } = request.params
      const state = await fleet.look()
      if (!configured(state.workers).some(one => one.name === name)) throw unknownProvider(name)
      return {
        name,
        state: stateOf(name, state),
        workers: state.workers.get(name) ?? [],
        models: state.targets
          .filter(one => one.target.provider === name)
          .map(one => modelHealthJson(one, limits.of(one.target), fastest(state.targets))),
      }
    },
  )

  app.get(
    '/circuit-breaker',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['providers'],
        summary: 'The circuit breakers',
        description:
          'One a provider and model that has been called within a day, at most the 200 that were called last.',
        response: {
          200: Type.Object({
            data: Type.Array(
              Type.Object({
                provider: Type.String(),
                model: Type.String(),
                state: breakerSchema,
                retry_ms: Type.Integer({ description: 'Until an open one lets a call through; else 0.' }),
              }),
            ),
          }),
        },
      },
    },
    async () => ({
      data: (await fleet.look()).targets.map(one => ({
        ...one.target,
        state: one.breaker,
        retry_ms: one.retryMs,
      })),
    }),
  )
}

export const unknownProvider = (name: string) => new SluiceError('provider_not_found', undefined, { context: { name } })

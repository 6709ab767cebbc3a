import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ALL_MODELS } from '#shared/db/provider-limits.ts'
import { SluiceError } from '#shared/errors.ts'
import { PROVIDER_NAMES, PROVIDERS } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import {
  breakerSchema,
  lowestLatency,
  modelHealthJson,
  modelHealthSchema,
  providerJson,
  providerSchema,
  stateOf,
} from './provider-json.ts'

export const providerParams = Type.Object({ name: Type.String({ examples: ['anthropic'] }) })

/** The state of the providers. */
export const providers: FastifyPluginAsyncTypebox<ApiDeps> = async (
  app,
  { providerRegistry, limits, providerStatus },
) => {
  const declared = () => providerRegistry.current().providers
  /** The providers that this process or a live worker is configured for: those of the catalogue in its order, then the others. */
  const configured = (reported: ReadonlyMap<string, unknown>): { name: string }[] => [
    ...PROVIDERS.filter(({ name }) => reported.has(name) || declared().some(one => one.name === name && one.explicit)),
    ...declared().filter(one => one.explicit && !(PROVIDER_NAMES as string[]).includes(one.name)),
  ]
  const defaultModel = (name: string) =>
    declared().find(one => one.name === name)?.model ?? PROVIDERS.find(one => one.name === name)?.defaultModel ?? null

  app.get(
    '/api/v1/providers',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['providers'],
        summary: 'List the configured providers with their state',
        description: 'Based on the calls of all workers. At most a second old.',
        response: { 200: Type.Object({ data: Type.Array(providerSchema) }) },
      },
    },
    async () => {
      const status = await providerStatus.read()
      return {
        data: configured(status.workers).map(({ name }) => {
          const model = defaultModel(name)
          return providerJson(name, model, limits.of({ provider: name, model: model ?? ALL_MODELS }), status)
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
        summary: 'Read the state of a provider’s models',
        description: 'The models that were called within a day, at most the 200 latest. At most a second old.',
        params: providerParams,
        response: {
          200: Type.Object({
            name: Type.String(),
            state: providerSchema.properties.state,
            workers: Type.Array(Type.Enum(['ok', 'failing', 'unreachable']), {
              description: 'The state that each worker reports from its own calls.',
            }),
            models: Type.Array(modelHealthSchema),
          }),
        },
      },
    },
    async request => {
      const { name } = request.params
      const status = await providerStatus.read()
      if (!configured(status.workers).some(one => one.name === name)) throw unknownProvider(name)
      return {
        name,
        state: stateOf(name, status),
        workers: status.workers.get(name) ?? [],
        models: status.targets
          .filter(one => one.target.provider === name)
          .map(one => modelHealthJson(one, limits.of(one.target), lowestLatency(status.targets))),
      }
    },
  )

  app.get(
    '/circuit-breaker',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['providers'],
        summary: 'List the circuit breakers',
        description: 'One per provider and model that was called within a day, at most the 200 latest.',
        response: {
          200: Type.Object({
            data: Type.Array(
              Type.Object({
                provider: Type.String(),
                model: Type.String(),
                state: breakerSchema,
                retry_ms: Type.Integer({
                  description: 'Milliseconds until an open breaker lets a call pass; otherwise 0.',
                }),
              }),
            ),
          }),
        },
      },
    },
    async () => ({
      data: (await providerStatus.read()).targets.map(one => ({
        ...one.target,
        state: one.breaker,
        retry_ms: one.retryMs,
      })),
    }),
  )
}

export const unknownProvider = (name: string) =>
  new SluiceError('provider_not_found', `There is no provider "${name.slice(0, 100)}".`, {
    context: { field: '/name', name },
  })

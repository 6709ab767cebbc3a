import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ALL_MODELS, deleteLimits, type Limits, NO_LIMITS, putLimits, SETTINGS } from '#shared/db/provider-limits.ts'
import { SluiceError } from '#shared/errors.ts'
import { PROVIDER_NAMES, PROVIDERS } from '#shared/models/providers.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import {
  breakerSchema,
  fastest,
  limitsInput,
  limitsJson,
  limitsSchema,
  modelHealthJson,
  modelHealthSchema,
  providerJson,
  providerSchema,
  stateOf,
} from '../provider-json.ts'

const params = Type.Object({ name: Type.String({ examples: ['anthropic'] }) })
const modelName = (description: string) => Type.String({ minLength: 1, maxLength: 200, description })
const limitsAnswer = Type.Object({
  provider: Type.String(),
  model: Type.Union([Type.String(), Type.Null()]),
  limits: limitsSchema,
})

/** Providers: how they do, and what they may be asked. */
export const providers: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { config, db, gate, limits, fleet, producer, logger } = deps

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
        description: 'Those that have been called within a day; a second old at most.',
        params,
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
        description: 'One a provider and model that has been called within a day.',
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

  app.put(
    '/api/v1/providers/:name/limits',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Set what a provider may be asked',
        description:
          'For one model, or for each that has no limits of its own; at once, and in place of what the settings say. All five are replaced: one that is absent or null is unlimited, 0 lets nothing pass.',
        params,
        body: Type.Object(
          {
            ...limitsInput,
            model: Type.Optional(modelName('Absent: every model of the provider that has no limits of its own.')),
          },
          { additionalProperties: false, examples: [{ rpm: 4000, itpm: 2_000_000, otpm: 400_000, concurrency: 100 }] },
        ),
        response: { 200: limitsAnswer },
      },
    },
    async request => {
      const { model, ...given } = request.body
      return change(request.params.name, model, { ...NO_LIMITS, ...given })
    },
  )

  app.delete(
    '/api/v1/providers/:name/limits',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Take limits away',
        description:
          'What stands behind them holds again: for a model the provider’s, for a provider those of the settings.',
        params,
        querystring: Type.Object(
          { model: Type.Optional(modelName('Absent: those of the provider.')) },
          { additionalProperties: false },
        ),
        response: { 200: limitsAnswer },
      },
    },
    async request => change(request.params.name, request.query.model, null),
  )

  async function change(provider: string, model: string | undefined, to: Limits | null) {
    if (!(PROVIDER_NAMES as string[]).includes(provider)) throw unknownProvider(provider)
    if (model === SETTINGS) throw refuse('invalid_request', '/model is not the name of a model')
    if (model !== undefined && findUnstorable(model) !== null) throw refuse('invalid_text')
    if (to) await putLimits(db, provider, model ?? ALL_MODELS, to)
    else await deleteLimits(db, provider, model ?? ALL_MODELS)
    await limits.refresh()
    await push(provider, model).catch(error => {
      // They are kept; the workers read them within two seconds, and bring them to the gate when it is back.
      logger.warn({ err: error, provider }, 'the gate was not told of new limits')
    })
    fleet.forget()
    const holds = limits.of({ provider, model: model ?? ALL_MODELS })
    return { provider, model: model ?? null, limits: limitsJson(holds) }
  }

  async function push(provider: string, model: string | undefined): Promise<void> {
    const targets = (await gate.targets()).filter(
      one => one.provider === provider && (model === undefined || one.model === model),
    )
    const woken = await Promise.all(targets.map(target => gate.setLimits(target, limits.of(target))))
    await producer.wake(woken.flat())
  }
}

const unknownProvider = (name: string) => new SluiceError('provider_not_found', undefined, { context: { name } })
const refuse = (code: 'invalid_request' | 'invalid_text', message?: string) =>
  new SluiceError(code, message, { context: { field: '/model' } })

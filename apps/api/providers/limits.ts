import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ALL_MODELS, deleteLimits, type Limits, NO_LIMITS, putLimits, SETTINGS } from '#shared/db/provider-limits.ts'
import { canonicalTarget } from '#shared/gate/target.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidField } from '../http/invalid-field.ts'
import { nullable } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'
import { limitsInput, limitsJson, limitsSchema } from './provider-json.ts'
import { providerParams, unknownProvider } from './routes.ts'

const modelName = (description: string) => Type.String({ minLength: 1, maxLength: 200, description })
const answer = Type.Object(
  {
    provider: Type.String(),
    model: nullable(Type.String(), {
      description: 'The canonical name of the model. Limits apply to all its names together. null: the provider.',
    }),
    limits: limitsSchema,
  },
  { description: 'The limits in effect.' },
)

/** Changes rate limits at run time. */
export const limits: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, gate, limits: reader, providerStatus, producer, providerRegistry, logger } = deps
  const isProvider = (name: string) =>
    (PROVIDER_NAMES as string[]).includes(name) || providerRegistry.current().sources.has(name)

  app.put(
    '/api/v1/providers/:name/limits',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Set provider rate limits',
        description:
          'Sets the limits of one model, under all its names, or those of every model of the provider without its own limits. Overrides the settings. Takes effect immediately for models that were called, and within two seconds for others. Replaces all five limits: absent or null is unlimited, 0 stops all calls.',
        params: providerParams,
        body: Type.Object(
          {
            ...limitsInput,
            model: Type.Optional(modelName('Absent: every model of the provider without its own limits.')),
          },
          { additionalProperties: false, examples: [{ rpm: 4000, itpm: 2_000_000, otpm: 400_000, concurrency: 100 }] },
        ),
        response: { 200: answer },
      },
    },
    async request => {
      const { model, ...limits } = request.body
      return change(request.params.name, model, { ...NO_LIMITS, ...limits })
    },
  )

  app.delete(
    '/api/v1/providers/:name/limits',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Delete provider rate limits',
        description:
          'The next level applies again: the limits of the provider for a model, the settings for a provider.',
        params: providerParams,
        querystring: Type.Object(
          { model: Type.Optional(modelName('Absent: the limits of the provider.')) },
          { additionalProperties: false },
        ),
        response: { 200: answer },
      },
    },
    async request => change(request.params.name, request.query.model, null),
  )

  async function change(provider: string, named: string | undefined, to: Limits | null) {
    if (!isProvider(provider)) throw unknownProvider(provider)
    assertStorable(named, '/model')
    const model = named && canonicalTarget({ provider, model: named }).model
    if (model?.startsWith(SETTINGS)) throw invalidField('/model', 'must be the name of a model')
    if (to) await putLimits(db, provider, model ?? ALL_MODELS, to)
    else await deleteLimits(db, provider, model ?? ALL_MODELS)
    await reader.refresh()
    await sendToGate(provider, model).catch(error => {
      // The limits are stored. The workers read them within two seconds and send them to the gate when it is available.
      logger.warn({ err: error, provider }, 'new limits were not sent to the gate')
    })
    providerStatus.invalidate()
    const limits = reader.of({ provider, model: model ?? ALL_MODELS })
    return { provider, model: model ?? null, limits: limitsJson(limits) }
  }

  async function sendToGate(provider: string, model: string | undefined): Promise<void> {
    const targets = (await gate.targets()).filter(
      one => one.provider === provider && (model === undefined || one.model === model),
    )
    const woken = await Promise.all(targets.map(target => gate.setLimits(target, reader.of(target))))
    await producer.wake(woken.flat())
  }
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { ALL_MODELS, deleteLimits, type Limits, NO_LIMITS, putLimits, SETTINGS } from '#shared/db/provider-limits.ts'
import { SluiceError } from '#shared/errors.ts'
import { targetOf } from '#shared/gate/target.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import { limitsInput, limitsJson, limitsSchema } from '../provider-json.ts'
import { providerParams, unknownProvider } from './providers.ts'

const modelName = (description: string) => Type.String({ minLength: 1, maxLength: 200, description })
const answer = Type.Object(
  {
    provider: Type.String(),
    model: Type.Union([Type.String(), Type.Null()], {
      description: 'The one name that all its names are counted under.',
    }),
    limits: limitsSchema,
  },
  { description: 'What holds now.' },
)

/** What the providers may be asked, while everything runs. */
export const limits: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, gate, limits: known, fleet, producer, logger } = deps

  app.put(
    '/api/v1/providers/:name/limits',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['providers'],
        summary: 'Set what a provider may be asked',
        description:
          'For one model under all its names, or for each that has no limits of its own; in place of what the settings say; at once where calls have been made, else within two seconds. All five are replaced: one that is absent or null is unlimited, 0 lets nothing pass.',
        params: providerParams,
        body: Type.Object(
          {
            ...limitsInput,
            model: Type.Optional(modelName('Absent: every model of the provider that has no limits of its own.')),
          },
          { additionalProperties: false, examples: [{ rpm: 4000, itpm: 2_000_000, otpm: 400_000, concurrency: 100 }] },
        ),
        response: { 200: answer },
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
        params: providerParams,
        querystring: Type.Object(
          { model: Type.Optional(modelName('Absent: those of the provider.')) },
          { additionalProperties: false },
        ),
        response: { 200: answer },
      },
    },
    async request => change(request.params.name, request.query.model, null),
  )

  async function change(provider: string, named: string | undefined, to: Limits | null) {
    if (!(PROVIDER_NAMES as string[]).includes(provider)) throw unknownProvider(provider)
    if (named !== undefined && findUnstorable(named) !== null) throw refuse('invalid_text')
    const model = named && targetOf({ provider, model: named }).model
    if (model === SETTINGS) throw refuse('invalid_request', '/model is not the name of a model')
    if (to) await putLimits(db, provider, model ?? ALL_MODELS, to)
    else await deleteLimits(db, provider, model ?? ALL_MODELS)
    await known.refresh()
    await push(provider, model).catch(error => {
      // They are kept; the workers read them within two seconds, and bring them to the gate when it is back.
      logger.warn({ err: error, provider }, 'the gate was not told of new limits')
    })
    fleet.forget()
    const holds = known.of({ provider, model: model ?? ALL_MODELS })
    return { provider, model: model ?? null, limits: limitsJson(holds) }
  }

  async function push(provider: string, model: string | undefined): Promise<void> {
    const targets = (await gate.targets()).filter(
      one => one.provider === provider && (model === undefined || one.model === model),
    )
    const woken = await Promise.all(targets.map(target => gate.setLimits(target, known.of(target))))
    await producer.wake(woken.flat())
  }
}

const refuse = (code: 'invalid_request' | 'invalid_text', message?: string) =>
  new SluiceError(code, message, { context: { field: '/model' } })

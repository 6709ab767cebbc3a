import { type Budget, listBudgets } from '#shared/db/budgets.ts'
import type { Db } from '#shared/db/pool.ts'
import { suitableTargets, unsupported } from '#shared/engine/suitable-targets.ts'
import { SluiceError } from '#shared/errors.ts'
import type { Target } from '#shared/gate/target.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import { generate } from '#shared/jobs/generate.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { buildRequest, maxOutput, maxTokenUsage, promptText } from '#shared/jobs/prompt.ts'
import { picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import { PROVIDER_NAMES } from '#shared/models/providers.ts'
import { unknownModel, unpricedModel } from '#shared/models/unknown-model.ts'
import { repeatEvery } from '#shared/process/lifecycle.ts'
import type { Logger } from '#shared/process/logger.ts'
import { parameterOf, parameterPointer } from '#shared/requests/parameters.ts'
import type { ChatRequest } from '#shared/requests/request.ts'
import { AUTO, type AvailableProvider, isCalled, route } from '#shared/routing.ts'
import { invalidField } from '../http/invalid-field.ts'

const POLL_MS = 2000

export type Preflight = {
  /**
   * Refuses a task that no candidate can ever run: its model is unknown, unsuitable or has no price, cannot honour the request, or its
   * maximum cost exceeds a budget per request. Budgets are at most two seconds old; the claim checks them again.
   * @throws SluiceError unknown_model, model_unsuitable, model_price_unknown, unsupported_parameter, request_over_budget
   */
  check(
    job: JobKind,
    task: {
      input: unknown
      options: StoredOptions
      apiKeyId: string /** Of the input, if it has been read. */
      request?: ChatRequest
    },
  ): void
  /** The part of `check` that concerns the model. @param at JSON pointer of the object that names the model */
  checkModel(
    job: Pick<JobKind, 'operation'>,
    named: { provider?: string | undefined; model?: string | undefined },
    at?: string,
  ): void
  stop(): Promise<void>
}

/** A provider of the catalogue may be configured later. @throws SluiceError invalid_request */
function assertKnown(provider: string, available: readonly AvailableProvider[], field: string): void {
  if ((PROVIDER_NAMES as string[]).includes(provider)) return
  const known = new Set<string>([...PROVIDER_NAMES, ...available.flatMap(one => [one.name, one.pool ?? one.name])])
  throw invalidField(field, `must be one of ${[...known].join(', ')}`)
}

export function createPreflight(deps: {
  db: Db
  available: () => AvailableProvider[]
  prices: Pick<Prices, 'priceOf' | 'worstCaseOf'>
  logger: Logger
}): Preflight {
  const { db, prices, logger } = deps
  let perRequest: Budget[] = []
  const stop = repeatEvery(
    POLL_MS,
    async () => {
      perRequest = await listBudgets(db, 'request')
    },
    error => logger.debug({ err: error }, 'budgets per request were not read'),
  )

  function checkBudgets(job: JobKind, { input, options, apiKeyId }: Parameters<Preflight['check']>[1]): void {
    const prompt = buildRequest(job, input, options)
    const exceededBudget = ({ provider, model }: Target): Budget | undefined => {
      const { inputTokens, outputTokens } = maxTokenUsage(job, prompt, options, { provider, model })
      const usage = { inputTokens, outputTokens: maxOutput(prompt, outputTokens) }
      const usd = prices.worstCaseOf(provider, model, usage)
      const scopes = ['global', `key:${apiKeyId}`, `kind:${job.kind}`, `provider:${provider}`]
      return perRequest.find(
        one => usd !== null && scopes.includes(one.scope) && picodollars(usd) > picodollars(one.limit_usd),
      )
    }
    const exceeded = route(options, deps.available(), { prompt: promptText(prompt), operation: job.operation }).map(
      exceededBudget,
    )
    if (exceeded.length === 0 || exceeded.includes(undefined)) return
    const { scope, limit_usd } = exceeded[0]!
    throw new SluiceError(
      'request_over_budget',
      `The maximum cost of the task exceeds $${limit_usd}, the limit for one request.`,
      { context: { scope: scope.split(':')[0], limit_usd } },
    )
  }

  const checkModel: Preflight['checkModel'] = ({ operation }, { provider, model }, at = '/options') => {
    const isEmbedding = operation === 'embed'
    const isAuto = model === undefined || model === AUTO
    if (isAuto && !isEmbedding && provider === undefined) return
    const available = deps.available()
    const named = provider === undefined ? undefined : available.find(one => isCalled(one, provider))
    if (provider !== undefined && !named) assertKnown(provider, available, `${at}/provider`)
    if (isAuto && !isEmbedding) return
    if (isEmbedding && named && !named.embeds)
      throw new SluiceError('model_unsuitable', `${provider} has no embedding models.`, {
        context: { field: `${at}/provider` },
      })
    if (isAuto) return
    const context = { field: `${at}/model`, model }
    const candidates = route({ provider, model }, available, { operation })
    const other = route({ provider, model }, available, { operation: isEmbedding ? 'chat' : 'embed' })
    if (candidates.length === 0 && other.length > 0)
      throw new SluiceError(
        'model_unsuitable',
        isEmbedding
          ? `"${model}" is not an embedding model.`
          : `"${model}" is an embedding model, which cannot generate text.`,
        { context },
      )
    if (candidates.length === 0 && provider === undefined && !model.endsWith(`/${AUTO}`)) {
      const { message, closest } = unknownModel(model, available)
      throw new SluiceError('unknown_model', message, { context: { ...context, closest } })
    }
    if (candidates.length > 0 && candidates.every(one => prices.priceOf(one.provider, one.model) === null)) {
      const { provider: by, model: name } = candidates[0]!
      const { code, message, closest } = unpricedModel(by, name, available)
      throw new SluiceError(code, message, { context: { ...context, closest } })
    }
  }

  /** Only requests of `generate` may ask for more than text. */
  function checkSuitable(job: JobKind, { input, options, request }: Parameters<Preflight['check']>[1]): void {
    if (job.kind !== generate.kind || job.operation !== 'chat') return
    const asked = request ?? buildRequest(job, input, options)
    const available = deps.available()
    const prompt = options.model?.endsWith(AUTO) ? promptText(asked) : ''
    const suitable = suitableTargets(asked, route(options, available, { prompt }), available, options.allow_lossy)
    if (!('refusal' in suitable)) return
    const { code, message, context } = unsupported(suitable.refusal)
    if (asked.original) throw new SluiceError(code, message, { context })
    // The input has the notation of OpenAI's chat format.
    const { param } = parameterOf(suitable.refusal.name, {
      wire: 'openai-chat',
      body: input as Record<string, unknown>,
    })
    throw new SluiceError(code, message.replace(`'${context.param}'`, `'${param}'`), {
      context: { field: parameterPointer(param, '/input') },
    })
  }

  return {
    check(job, task) {
      checkModel(job, task.options)
      checkSuitable(job, task)
      if (perRequest.length > 0) checkBudgets(job, task)
    },
    checkModel,
    stop,
  }
}

import type { ProviderConfig } from '#shared/config.ts'
import { type Budget, listBudgets } from '#shared/db/budgets.ts'
import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { mostTokens, promptOf, wordsOf } from '#shared/jobs/prompt.ts'
import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import { picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import { AUTO, type Candidate, configuredAs, route } from '#shared/routing.ts'

const LOOK_MS = 2000

export type Afford = {
  /**
   * Refuses what no candidate can ever be asked: one that names a model of another use or without a price, or whose worst case
   * is more than a budget per request. Budgets are as they were two seconds ago at most; the claim has the last word.
   * @throws SluiceError model_unsuitable, model_price_unknown, request_over_budget
   */
  check(job: JobKind, task: { input: unknown; options: TaskOptions; apiKeyId: string }): void
  /** The first half of that: what is said of the model. @param at where the client said it, a JSON pointer */
  checkModel(job: Pick<JobKind, 'operation'>, named: Pick<TaskOptions, 'provider' | 'model'>, at?: string): void
  stop(): Promise<void>
}

export function createAfford(deps: {
  db: Db
  providers: ProviderConfig[]
  prices: Pick<Prices, 'priceOf' | 'worstCaseOf'>
  logger: Logger
}): Afford {
  const { db, prices, logger } = deps
  const available = configuredAs(deps.providers)
  let perRequest: Budget[] = []
  const stop = every(
    LOOK_MS,
    async () => {
      perRequest = await listBudgets(db, 'request')
    },
    error => logger.debug({ err: error }, 'budgets per request not read'),
  )

  function checkBudgets(job: JobKind, { input, options, apiKeyId }: Parameters<Afford['check']>[1]): void {
    const prompt = promptOf(job, input, options)
    const most = mostTokens(job, prompt, options)
    const overBy = ({ provider, model }: Candidate): Budget | undefined => {
      const usd = prices.worstCaseOf(provider, model, most)
      const scopes = ['global', `key:${apiKeyId}`, `kind:${job.kind}`, `provider:${provider}`]
      return perRequest.find(
        one => usd !== null && scopes.includes(one.scope) && picodollars(usd) > picodollars(one.limit_usd),
      )
    }
    const over = route(options, available, { prompt: wordsOf(prompt), operation: job.operation }).map(overBy)
    if (over.length === 0 || over.includes(undefined)) return
    const { scope, limit_usd } = over[0]!
    throw new SluiceError(
      'request_over_budget',
      `Its worst case is more than the $${limit_usd} that one request may cost.`,
      {
        context: { scope: scope.split(':')[0], limit_usd },
      },
    )
  }

  const checkModel: Afford['checkModel'] = ({ operation }, { provider, model }, at = '/options') => {
    const vectors = operation === 'embed'
    const asked = available.find(one => one.name === provider)
    if (vectors && asked && !asked.embeds)
      throw new SluiceError('model_unsuitable', `${provider} has no models that make vectors.`, {
        context: { field: `${at}/provider` },
      })
    if (model === undefined || model === AUTO) return
    const context = { field: `${at}/model`, model }
    const candidates = route({ provider, model }, available, { operation })
    const other = route({ provider, model }, available, { operation: vectors ? 'chat' : 'embed' })
    if (candidates.length === 0 && other.length > 0)
      throw new SluiceError(
        'model_unsuitable',
        vectors ? `"${model}" is not known to make vectors.` : `"${model}" makes vectors, and nothing else.`,
        { context },
      )
    if (candidates.length > 0 && candidates.every(one => prices.priceOf(one.provider, one.model) === null))
      throw new SluiceError('model_price_unknown', undefined, { context })
  }

  return {
    check(job, task) {
      checkModel(job, task.options)
      if (perRequest.length > 0) checkBudgets(job, task)
    },
    checkModel,
    stop,
  }
}

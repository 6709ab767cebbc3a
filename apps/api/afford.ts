import type { ProviderConfig } from '#shared/config.ts'
import { type Budget, listBudgets } from '#shared/db/budgets.ts'
import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { promptOf, wordsOf } from '#shared/jobs/prompt.ts'
import { every } from '#shared/lifecycle.ts'
import type { Logger } from '#shared/logger.ts'
import { picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'
import { upperBoundTokens } from '#shared/models/tokens.ts'
import { AUTO, type Available, type Candidate, route } from '#shared/routing.ts'

const LOOK_MS = 2000

export type Afford = {
  /**
   * Refuses what no candidate can ever be asked: one that names a model without a price, or whose worst case is more than a
   * budget per request. Budgets are as they were two seconds ago at most; the claim has the last word.
   * @throws SluiceError model_price_unknown, request_over_budget
   */
  check(job: JobKind, task: { input: unknown; options: TaskOptions; apiKeyId: string }): void
  /** The first half of that: whether anybody knows the price of the model. @param field names it for the client */
  checkModel(named: Pick<TaskOptions, 'provider' | 'model'>, field?: string): void
  stop(): Promise<void>
}

export function createAfford(deps: {
  db: Db
  providers: ProviderConfig[]
  prices: Pick<Prices, 'priceOf' | 'worstCaseOf'>
  logger: Logger
}): Afford {
  const { db, prices, logger } = deps
  const available: Available[] = deps.providers.map(({ name, model }) => ({ name, defaultModel: model }))
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
    const most = { inputTokens: upperBoundTokens(prompt), outputTokens: options.max_tokens ?? job.maxTokens }
    const overBy = ({ provider, model }: Candidate): Budget | undefined => {
      const usd = prices.worstCaseOf(provider, model, most)
      const scopes = ['global', `key:${apiKeyId}`, `kind:${job.kind}`, `provider:${provider}`]
      return perRequest.find(
        one => usd !== null && scopes.includes(one.scope) && picodollars(usd) > picodollars(one.limit_usd),
      )
    }
    const over = route(options, available, { prompt: wordsOf(prompt) }).map(overBy)
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

  const checkModel: Afford['checkModel'] = ({ provider, model }, field = '/options/model') => {
    if (model === undefined || model === AUTO) return
    const candidates = route({ provider, model }, available)
    if (candidates.length > 0 && candidates.every(one => prices.priceOf(one.provider, one.model) === null))
      throw new SluiceError('model_price_unknown', undefined, { context: { field, model } })
  }

  return {
    check(job, task) {
      checkModel(task.options)
      if (perRequest.length > 0) checkBudgets(job, task)
    },
    checkModel,
    stop,
  }
}

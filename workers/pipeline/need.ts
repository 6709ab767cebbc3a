import type { Need } from '#shared/db/claims.ts'
import type { RunnableTask } from '#shared/db/tasks.ts'
import type { Ask, JobKind } from '#shared/jobs/define.ts'
import type { KeptOptions } from '#shared/jobs/options.ts'
import { mostTokens, promptVersionOf } from '#shared/jobs/prompt.ts'
import type { Prices } from '#shared/models/prices.ts'
import type { Candidate } from '#shared/routing.ts'

export type NeedPrices = Pick<Prices, 'worstCaseOf' | 'priceVersionOf'>

/** What a call may cost and use at most, and who pays; null: nobody knows what it costs. */
export function needOf(
  prices: NeedPrices,
  task: RunnableTask,
  kind: JobKind,
  { provider, model }: Candidate,
  prompt: Ask,
): Need | null {
  const options = task.options as KeptOptions
  const most = mostTokens(kind, prompt, options)
  const usd = prices.worstCaseOf(provider, model, most)
  const priceVersion = prices.priceVersionOf(provider, model)
  if (usd === null || priceVersion === null) return null
  const promptVersion = promptVersionOf(kind, options)
  const payer = { apiKeyId: task.api_key_id, batchId: task.batch_id }
  return { provider, model, kind: task.kind, ...payer, usd, priceVersion, promptVersion, ...most }
}

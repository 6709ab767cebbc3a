import type { Reservation } from '#shared/db/claims/admission.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { Target } from '#shared/gate/target.ts'
import type { JobKind, ModelRequest } from '#shared/jobs/define.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { maxOutput, maxTokenUsage, promptVersionOf } from '#shared/jobs/prompt.ts'
import type { Prices } from '#shared/models/prices.ts'

export type ReservationPrices = Pick<Prices, 'worstCaseOf' | 'priceVersionOf'>

/**
 * The upper bound of a call's cost and tokens, and the payer; null: the model has no price.
 * @param maxTokens the output limit of one answer
 */
export function reservationFor(
  prices: ReservationPrices,
  task: RunnableTask,
  kind: JobKind,
  { provider, model }: Target,
  prompt: ModelRequest,
  maxTokens: number,
): Reservation | null {
  const options = task.options as StoredOptions
  const { inputTokens } = maxTokenUsage(kind, prompt, options, { provider, model })
  const most = { inputTokens, outputTokens: maxOutput(prompt, maxTokens) }
  const usd = prices.worstCaseOf(provider, model, most)
  const priceVersion = prices.priceVersionOf(provider, model)
  if (usd === null || priceVersion === null) return null
  const promptVersion = promptVersionOf(kind, options)
  const payer = { apiKeyId: task.api_key_id, batchId: task.batch_id }
  return { provider, model, kind: task.kind, ...payer, usd, priceVersion, promptVersion, ...most }
}

import type { BudgetRefusal } from '#shared/db/claims/admission.ts'
import type { Target } from '#shared/gate/target.ts'
import type { GateLimits } from '#shared/gate/types.ts'
import type { JobKind, ModelRequest } from '#shared/jobs/define.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { maxOutput, maxTokenUsage } from '#shared/jobs/prompt.ts'
import { defaultOutputLimit } from '#shared/models/output-limit.ts'
import { picodollars } from '#shared/models/picodollars.ts'
import type { Prices } from '#shared/models/prices.ts'

/** A call without a client's limit may use at most one part in this many of a model's tokens per minute. */
const RATE_SHARE = 8
/** Up to this limit, a call waits for other reservations to be released rather than write less. */
const SUFFICIENT_TOKENS = 16_384

/** Output tokens to request, and the minimum if a budget or a rate limit does not admit more. */
export type OutputLimit = { max: number; min: number }

export type OutputLimitDeps = {
  prices: Pick<Prices, 'worstCaseOf'>
  /** The rate limits of a model. */
  limitsOf(target: Target): Pick<GateLimits, 'tpm' | 'otpm'>
}

/**
 * The output limit of the next call: the client's, else the kind's. The model's own for open-ended kinds and after a
 * truncated answer.
 * @param cutAt the largest limit at which an answer of this task was truncated; 0: none was
 * @returns null: no limit above `cutAt` is possible
 */
export function outputLimitOf(
  deps: OutputLimitDeps,
  kind: JobKind,
  options: StoredOptions,
  prompt: ModelRequest,
  target: Target,
  cutAt: number,
): OutputLimit | null {
  const { inputTokens, outputTokens } = maxTokenUsage(kind, prompt, options, target)
  const fixed = { max: outputTokens, min: outputTokens }
  if (kind.operation === 'embed') return fixed
  if (options.max_tokens !== undefined) return outputTokens > cutAt ? fixed : null
  const own = defaultOutputLimit(target.provider, target.model, { inputTokens, least: kind.maxTokens })
  if (cutAt === 0 && !kind.openEnded) return { max: Math.min(own, kind.maxTokens), min: Math.min(own, kind.maxTokens) }
  const { tpm, otpm } = deps.limitsOf(target)
  const rate = Math.floor(Math.min(tpm ?? Number.POSITIVE_INFINITY, otpm ?? Number.POSITIVE_INFINITY) / RATE_SHARE)
  const max = Math.min(own, Math.max(kind.maxTokens, rate))
  if (max <= cutAt) return null
  return { max, min: Math.min(max, Math.max(kind.maxTokens, 2 * cutAt)) }
}

/** Half of a limit, for a call that exceeds a rate limit; null: there is no lower one. */
export const halved = ({ max, min }: OutputLimit): OutputLimit | null =>
  max > min ? { max: Math.max(min, Math.floor(max / 2)), min } : null

/**
 * The largest limit that a refusing budget has room for; null: wait, or end without a call. While only other reservations
 * fill the budget, waiting is better than a truncated answer.
 */
export function affordable(
  deps: Pick<OutputLimitDeps, 'prices'>,
  { target: { provider, model }, prompt, inputTokens }: { target: Target; prompt: ModelRequest; inputTokens: number },
  { max, min }: OutputLimit,
  { left_usd, exceeded }: BudgetRefusal,
): OutputLimit | null {
  if (max <= min) return null
  const left = picodollars(left_usd)
  const fits = (maxTokens: number) => {
    const outputTokens = maxOutput(prompt, maxTokens)
    const usd = deps.prices.worstCaseOf(provider, model, { inputTokens, outputTokens })
    return usd !== null && picodollars(usd) <= left
  }
  let low = min
  let high = max - 1
  if (!fits(low)) return exceeded ? { max: min, min } : null
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  return exceeded || low >= Math.min(max, SUFFICIENT_TOKENS) ? { max: low, min } : null
}

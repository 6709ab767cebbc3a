import type { RejectedAnswer } from '#shared/db/tasks/load.ts'
import type { Target } from '#shared/gate/target.ts'
import type { Failed } from './no-answer.ts'

/** Which calls may follow the rejected answers of a task. */

const isFrom = (answer: RejectedAnswer, { provider, model }: Target) =>
  answer.provider === provider && answer.model === model

/** The model failed the same check twice: a third answer would cost as much and fail the same way. */
export const repeatsFailure = (rejected: readonly RejectedAnswer[], target: Target): boolean => {
  const reasons = rejected.filter(one => isFrom(one, target)).map(one => one.reason)
  return new Set(reasons).size < reasons.length
}

export const truncatedAnswers = (rejected: readonly RejectedAnswer[]): RejectedAnswer[] =>
  rejected.filter(one => one.finishReason === 'length')

/** The largest limit at which an answer was truncated; 0: none was. */
export const truncatedAt = (rejected: readonly RejectedAnswer[]): number =>
  Math.max(0, ...truncatedAnswers(rejected).map(one => one.maxTokens))

/** A truncated answer is requested once more, from the same model: other models would truncate it as well. */
export const mayRaiseLimit = (rejected: readonly RejectedAnswer[], target: Target): boolean => {
  const cut = truncatedAnswers(rejected)
  return cut.length === 0 || (cut.length === 1 && isFrom(cut[0]!, target))
}

/** @param limited the client set the limit */
export function truncationError({ reason, maxTokens }: RejectedAnswer, limited: boolean): Failed {
  const remedy = limited
    ? 'Raise max_tokens, or ask for a shorter answer.'
    : 'Ask for a shorter answer, or name a model that writes longer ones.'
  return {
    code: 'output_truncated',
    message: `The answer was cut off at ${maxTokens} tokens and cannot be used: ${reason}. ${remedy}`,
  }
}

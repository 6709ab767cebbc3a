import { contextWindow, maxOutputTokens } from './models.ts'

/** For models with an unknown limit: fits the context of models on desktop machines. */
const UNKNOWN_LIMIT = 8192

/**
 * The output limit, in tokens, if the client sets none: as much as the provider allows and the context has room for.
 * @param inputTokens upper bound of the prompt
 * @param least minimum limit, even if the prompt leaves less room at its upper bound
 */
export function defaultOutputLimit(
  provider: string,
  model: string,
  { inputTokens, least }: { inputTokens: number; least: number },
): number {
  const limit = maxOutputTokens(provider, model) ?? Math.max(UNKNOWN_LIMIT, least)
  const context = contextWindow(provider, model)
  return context === null ? limit : Math.min(limit, Math.max(least, context - inputTokens))
}

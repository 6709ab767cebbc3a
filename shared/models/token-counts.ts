import type { TokenUsage } from './tokens.ts'

/** Readers of the token counts that providers report. */

/** No call can use more tokens. Larger counts are garbage and could not be stored. */
const MAX_TOKENS = 1e12

/** Reads a token count; 0 if it is absent, null or invalid. */
export const tokens = (count: unknown): number =>
  typeof count === 'number' && Number.isFinite(count) && count > 0 ? Math.round(Math.min(count, MAX_TOKENS)) : 0

/** Whether a provider reported this count. A missing or malformed count must not be priced as 0. */
export const isCount = (count: unknown): count is number =>
  typeof count === 'number' && Number.isFinite(count) && count >= 0

/** Reasoning tokens, if the provider reports them. */
export const reasoningOf = (count: unknown): Pick<TokenUsage, 'reasoningTokens'> =>
  typeof count === 'number' ? { reasoningTokens: tokens(count) } : {}

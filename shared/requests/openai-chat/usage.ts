import { isCount, reasoningOf, tokens } from '#shared/models/token-counts.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'

/** `usage` as servers with this wire format send it. */
export type WireUsage = {
  prompt_tokens?: unknown
  completion_tokens?: unknown
  total_tokens?: unknown
  prompt_tokens_details?: { cached_tokens?: unknown; cache_write_tokens?: unknown } | null
  completion_tokens_details?: { reasoning_tokens?: unknown } | null
  /** DeepSeek. */
  prompt_cache_hit_tokens?: unknown
}

/** @returns null: counts that the price needs are missing */
export function readUsage(usage: WireUsage): TokenUsage | null {
  if (!isCount(usage.prompt_tokens) || !(isCount(usage.completion_tokens) || isCount(usage.total_tokens))) return null
  const inputTokens = tokens(usage.prompt_tokens)
  const written = tokens(usage.completion_tokens)
  // Gemini excludes reasoning from `completion_tokens`, but not from the total and the bill.
  const outputTokens = Math.max(written, tokens(usage.total_tokens) - inputTokens)
  const { prompt_tokens_details: input, completion_tokens_details: output } = usage
  // For prices, both are parts of the input.
  const cacheReadTokens = Math.min(inputTokens, tokens(input?.cached_tokens ?? usage.prompt_cache_hit_tokens))
  const cacheWriteTokens = Math.min(inputTokens - cacheReadTokens, tokens(input?.cache_write_tokens))
  const thoughts = output?.reasoning_tokens ?? (outputTokens > written ? outputTokens - written : undefined)
  return { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, ...reasoningOf(thoughts) }
}

export const renderUsage = (usage: TokenUsage) => ({
  prompt_tokens: usage.inputTokens,
  completion_tokens: usage.outputTokens,
  total_tokens: usage.inputTokens + usage.outputTokens,
  prompt_tokens_details: { cached_tokens: usage.cacheReadTokens, cache_write_tokens: usage.cacheWriteTokens },
  completion_tokens_details: { reasoning_tokens: usage.reasoningTokens ?? 0 },
})

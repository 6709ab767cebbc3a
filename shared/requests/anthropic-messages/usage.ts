import { isCount, reasoningOf, tokens } from '#shared/models/token-counts.ts'
import type { TokenUsage } from '#shared/models/tokens.ts'

/** `usage` of a message. In a stream, events that do not repeat a count have null or nothing. */
export type WireUsage = {
  input_tokens?: unknown
  output_tokens?: unknown
  cache_creation_input_tokens?: unknown
  cache_read_input_tokens?: unknown
  output_tokens_details?: { thinking_tokens?: unknown } | null
}

/**
 * `input_tokens` excludes tokens read from and written to the cache. @returns null: counts that the price needs are
 * missing
 */
export function readUsage(usage: WireUsage): TokenUsage | null {
  if (!isCount(usage.input_tokens) || !isCount(usage.output_tokens)) return null
  const cacheReadTokens = tokens(usage.cache_read_input_tokens)
  const cacheWriteTokens = tokens(usage.cache_creation_input_tokens)
  return {
    inputTokens: tokens(usage.input_tokens) + cacheReadTokens + cacheWriteTokens,
    outputTokens: tokens(usage.output_tokens),
    cacheReadTokens,
    cacheWriteTokens,
    ...reasoningOf(usage.output_tokens_details?.thinking_tokens),
  }
}

const NO_USAGE: TokenUsage = { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0 }

/** A message has counts in any case. @param usage null: the provider reported none */
export function renderUsage(usage: TokenUsage | null) {
  const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, reasoningTokens } = usage ?? NO_USAGE
  return {
    input_tokens: Math.max(0, inputTokens - cacheReadTokens - cacheWriteTokens),
    cache_creation_input_tokens: cacheWriteTokens,
    cache_read_input_tokens: cacheReadTokens,
    cache_creation: null,
    output_tokens: outputTokens,
    output_tokens_details: reasoningTokens === undefined ? null : { thinking_tokens: reasoningTokens },
    server_tool_use: null,
    service_tier: null,
    speed: null,
    inference_geo: null,
  }
}

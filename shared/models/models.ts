import { WRITTEN } from './price-list.ts'
import type { ProviderName } from './providers.ts'

/** Whose model a name is, when the client names a model and no provider. First match wins. */
export const MODEL_FAMILIES: readonly { pattern: RegExp; provider: ProviderName }[] = [
  { pattern: /^claude-/, provider: 'anthropic' },
  { pattern: /^(gpt-|chatgpt-|o\d|text-embedding-(3|ada)-)/, provider: 'openai' },
  { pattern: /^gemini-/, provider: 'google' },
  { pattern: /^deepseek-/, provider: 'deepseek' },
]

/** What a model can be asked for: that it writes, or that it makes vectors. None does both. */
export type Operation = 'chat' | 'embed'

/**
 * Names of models that make vectors: all of OpenAI's and Google's, and those that Ollama's library has. A server may have
 * others, of which only its operator knows: the setting `<PROVIDER>_EMBED_MODEL`.
 */
const EMBEDDING = /embed|(?:^|[/_-])(?:bge|gte|e5|all-minilm|paraphrase-multilingual)(?:[-_:.]|$)/i

export const operationOf = (model: string): Operation => (EMBEDDING.test(model) ? 'embed' : 'chat')

/** Tokens that a model writes at most in one call, as its provider's documentation says; the price list does not. */
const MAX_OUTPUT: readonly { provider: ProviderName; pattern: RegExp; tokens: number }[] = [
  { provider: 'anthropic', pattern: /^claude-(opus|sonnet|haiku|fable)-5(-\d)?(-\d{8})?$/, tokens: 128_000 },
  { provider: 'anthropic', pattern: /^claude-haiku-4-5(-\d{8})?$/, tokens: 64_000 },
  { provider: 'openai', pattern: /^gpt-5\.4(-mini)?(-\d{4}-\d\d-\d\d)?$/, tokens: 128_000 },
  { provider: 'deepseek', pattern: /^deepseek-v4-(flash|pro)$/, tokens: 384_000 },
]

/** Tokens that the model reads and writes in one call; null: not known. */
export const contextWindow = (provider: string, model: string): number | null =>
  WRITTEN.find(one => one.context !== undefined && one.provider === provider && one.expression.test(model))?.context ??
  null

/** Tokens that the model writes in one call; null: not known. */
export const maxOutputTokens = (provider: string, model: string): number | null =>
  MAX_OUTPUT.find(one => one.provider === provider && one.pattern.test(model))?.tokens ?? null

import { catalogueOf, declaredModel } from './declared.ts'
import { PRICE_LIST } from './price-list.ts'
import type { ProviderName } from './providers.ts'

/** The provider that a model's name suggests. Only for error messages: a prefix never decides where text is sent. */
export const FAMILY_HINTS: readonly { pattern: RegExp; provider: ProviderName }[] = [
  { pattern: /^claude-/i, provider: 'anthropic' },
  { pattern: /^(gpt-|chatgpt-|o\d|ft:|text-embedding-(3|ada)-)/i, provider: 'openai' },
  { pattern: /^gemini-/i, provider: 'google' },
  { pattern: /^deepseek-/i, provider: 'deepseek' },
]

/** What a model does: write text (`chat`) or create vectors (`embed`). No model does both. */
export type Operation = 'chat' | 'embed'

/**
 * Names of embedding models: all of OpenAI's and Google's, and those in Ollama's library. The setting
 * `<PROVIDER>_EMBED_MODEL` declares others.
 */
const EMBEDDING = /embed|(?:^|[/_-])(?:bge|gte|e5|all-minilm|paraphrase-multilingual)(?:[-_:.]|$)/i

export const operationOf = (model: string): Operation => (EMBEDDING.test(model) ? 'embed' : 'chat')

/** Maximum output tokens of one call, from the documentation of the provider, because the price list lacks them. */
const MAX_OUTPUT: readonly { provider: ProviderName; pattern: RegExp; tokens: number }[] = [
  { provider: 'anthropic', pattern: /^claude-(opus|sonnet|haiku|fable)-5(-\d)?(-\d{8})?$/, tokens: 128_000 },
  { provider: 'anthropic', pattern: /^claude-opus-4-[6-8](-\d{8})?$/, tokens: 128_000 },
  {
    provider: 'anthropic',
    pattern: /^claude-((haiku|opus)-4-5|sonnet-4(-[056])?|3-7-sonnet)(-latest|-\d{8})?$/,
    tokens: 64_000,
  },
  { provider: 'anthropic', pattern: /^claude-opus-4(-[01])?(-\d{8})?$/, tokens: 32_000 },
  { provider: 'anthropic', pattern: /^claude-3-5-/, tokens: 8192 },
  { provider: 'anthropic', pattern: /^claude-(3-(opus|sonnet|haiku)|2|v1|instant)/, tokens: 4096 },
  {
    provider: 'openai',
    pattern: /^gpt-[56](\.\d)?(-(mini|nano|pro|codex|luna|sol|terra|astra))*(-\d{4}-\d\d-\d\d)?$/,
    tokens: 128_000,
  },
  { provider: 'openai', pattern: /^(o1|o3|o3-mini|o3-pro|o4-mini)(-\d{4}-\d\d-\d\d)?$/, tokens: 100_000 },
  { provider: 'openai', pattern: /^gpt-4\.1/, tokens: 32_768 },
  { provider: 'openai', pattern: /^(chatgpt|gpt)-4o/, tokens: 16_384 },
  { provider: 'openai', pattern: /^gpt-4-(turbo|vision|1106|0125)/, tokens: 4096 },
  { provider: 'openai', pattern: /^gpt-4(-\d{4})?$/, tokens: 8192 },
  { provider: 'openai', pattern: /^gpt-3\.5-turbo/, tokens: 4096 },
  { provider: 'google', pattern: /^gemini-(2\.5|[3-9])/, tokens: 65_536 },
  { provider: 'google', pattern: /^gemini-(2\.0|1\.5)/, tokens: 8192 },
  { provider: 'deepseek', pattern: /^deepseek-reasoner$/, tokens: 32_768 },
  { provider: 'deepseek', pattern: /^deepseek-chat$/, tokens: 8192 },
  { provider: 'deepseek', pattern: /^deepseek-v4-(flash|pro)$/, tokens: 384_000 },
]

/** Context window in tokens (input and output of one call); null: unknown. */
export const contextWindow = (provider: string, model: string): number | null =>
  declaredModel(provider, model).context ??
  PRICE_LIST.find(
    one => one.context !== undefined && one.provider === catalogueOf(provider) && one.expression.test(model),
  )?.context ??
  null

/** Maximum output tokens of one call; null: unknown. */
export const maxOutputTokens = (provider: string, model: string): number | null =>
  declaredModel(provider, model).output ??
  MAX_OUTPUT.find(one => one.provider === catalogueOf(provider) && one.pattern.test(model))?.tokens ??
  null

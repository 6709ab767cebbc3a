import type { ProviderName } from './providers.ts'

/** Whose model a name is, when the client names a model and no provider. First match wins. */
export const MODEL_FAMILIES: readonly { pattern: RegExp; provider: ProviderName }[] = [
  { pattern: /^claude-/, provider: 'anthropic' },
  { pattern: /^(gpt-|chatgpt-|o\d)/, provider: 'openai' },
  { pattern: /^gemini-/, provider: 'google' },
  { pattern: /^deepseek-/, provider: 'deepseek' },
]

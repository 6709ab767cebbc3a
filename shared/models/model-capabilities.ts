import type { Capability, ModelCapabilities } from './capabilities.ts'
import { catalogueOf } from './declared.ts'
import type { ProviderName } from './providers.ts'

/** What the models of the catalogue lack, from the documentation of their providers. The first row that matches decides. */
const LACKS: readonly { provider: ProviderName; pattern: RegExp; lacks: readonly Capability[] }[] = [
  { provider: 'anthropic', pattern: /^claude-(2|v1|instant)/, lacks: ['tools', 'images', 'thinking'] },
  { provider: 'anthropic', pattern: /^claude-3-(opus|sonnet|haiku|5-)/, lacks: ['thinking'] },
  { provider: 'openai', pattern: /^gpt-3\.5/, lacks: ['images', 'thinking'] },
  { provider: 'openai', pattern: /^gpt-4(-\d{4}|-32k.*)?(-preview)?$/, lacks: ['images', 'thinking'] },
  { provider: 'openai', pattern: /^(chatgpt-4|gpt-4|ft:gpt-4)/, lacks: ['thinking'] },
  { provider: 'openai', pattern: /^o1-(mini|preview)/, lacks: ['tools', 'images'] },
  { provider: 'openai', pattern: /^o3-mini/, lacks: ['images'] },
  { provider: 'google', pattern: /^gemini-(1|2\.0)/, lacks: ['thinking'] },
  { provider: 'deepseek', pattern: /./, lacks: ['images'] },
]

/** What is known about a model of the catalogue. Everything else may be able to do anything. */
export function cataloguedCapabilities(provider: string, model: string): ModelCapabilities {
  const row = LACKS.find(one => one.provider === catalogueOf(provider) && one.pattern.test(model))
  return Object.fromEntries((row?.lacks ?? []).map(one => [one, false]))
}

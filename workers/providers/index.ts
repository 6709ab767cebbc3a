import type { ProviderConfig } from '#shared/config.ts'
import type { ProviderDescriptor } from '#shared/models/providers.ts'
import { anthropic } from './anthropic.ts'
import type { Provider, ProviderFactory } from './define.ts'
import { ollama } from './ollama.ts'
import { openai } from './openai.ts'

/** The adapters, by the name that a row of `shared/models/providers.ts` gives. */
const ADAPTERS: Record<ProviderDescriptor['adapter'], ProviderFactory> = { anthropic, openai, ollama }

/** One provider a row, in the order of the rows; a name comes once. */
export function createProviders(configs: ProviderConfig[]): Map<string, Provider> {
  return new Map(configs.map(config => [config.name, ADAPTERS[config.adapter](config)]))
}

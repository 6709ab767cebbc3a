import type { ProviderConfig } from '#shared/config.ts'
import type { ProviderDescriptor } from '#shared/models/providers.ts'
import type { ProxySettings } from '#shared/settings/proxy.ts'
import { anthropic } from './anthropic.ts'
import type { Provider, ProviderFactory } from './define.ts'
import { ollama } from './ollama.ts'
import { openai } from './openai.ts'
import { createFetch } from './transport.ts'

/** The adapters by the names that `shared/models/providers.ts` uses. */
const ADAPTERS: Record<ProviderDescriptor['adapter'], ProviderFactory> = { anthropic, openai, ollama }

/** Creates the configured providers, in their order. Names are unique. */
export function createProviders(configs: ProviderConfig[], proxies?: ProxySettings): Map<string, Provider> {
  const fetch = createFetch(proxies)
  return new Map(configs.map(config => [config.name, ADAPTERS[config.adapter](config, fetch)]))
}

import type { ProviderConfig } from '#shared/config.ts'
import type { ApiFormat } from '#shared/models/presets.ts'
import type { ProxySettings } from '#shared/settings/proxy.ts'
import { anthropic } from './anthropic.ts'
import type { Provider, ProviderFactory } from './define.ts'
import { ollama } from './ollama.ts'
import { openai } from './openai.ts'
import { createFetch } from './transport.ts'

/** The adapters by format. */
const ADAPTERS: Record<ApiFormat, ProviderFactory> = {
  anthropic,
  openai,
  ollama,
  'azure-openai': openai,
  bedrock: anthropic,
  vertex: anthropic,
}

/** Creates the configured providers, in their order. Names are unique. */
export function createProviders(configs: readonly ProviderConfig[], proxies?: ProxySettings): Map<string, Provider> {
  const fetch = createFetch(proxies)
  return new Map(configs.map(config => [config.name, ADAPTERS[config.adapter](config, fetch)]))
}

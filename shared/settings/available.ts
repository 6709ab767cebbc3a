import { pricedNames } from '#shared/models/catalogue.ts'
import { WIRES } from '#shared/models/presets.ts'
import type { AliasEntry, AvailableProvider } from '#shared/routing.ts'
import type { Aliases } from './aliases.ts'
import type { ProviderSettings } from './merge.ts'
import type { ProviderConfig } from './providers.ts'

/** What the operator declares about a provider, for routing. */
export function declaredParts(config: ProviderConfig, { providers, prices, aliases }: ProviderSettings) {
  const priced = pricedNames(prices, config.name)
  const own = aliasesOf(config, providers, aliases)
  return {
    format: WIRES[config.adapter],
    ...(priced.length > 0 && { priced }),
    ...(config.models && { capabilities: config.models }),
    ...(config.pool !== undefined && { pool: config.pool }),
    ...(config.weight !== undefined && { weight: config.weight }),
    ...(Object.keys(own).length > 0 && { aliases: own }),
  }
}

const isCalled = ({ name, pool }: ProviderConfig, provider: string) => name === provider || pool === provider

/** The aliases that stand for a model of the provider. A pool divides the weight of its entry among its members. */
function aliasesOf(config: ProviderConfig, all: readonly ProviderConfig[], aliases: Aliases) {
  const found: Record<string, AliasEntry[]> = {}
  for (const [alias, targets] of aliases) {
    const entries = targets.flatMap(({ provider, model, weight }, rank): AliasEntry[] => {
      if (!isCalled(config, provider)) return []
      const members = all.filter(one => isCalled(one, provider))
      const total = members.reduce((sum, one) => sum + (one.weight ?? 1), 0)
      const share = total === 0 ? 1 / members.length : (config.weight ?? 1) / total
      return [{ model, rank, ...(weight !== undefined && { weight: weight * share }) }]
    })
    if (entries.length > 0) found[alias] = entries
  }
  return found
}

/** The configured providers, available or not. @param listed the last model list of an operator's server */
export const configuredProviders = (
  settings: ProviderSettings,
  listed: (provider: string) => readonly string[] | null = () => null,
): AvailableProvider[] =>
  settings.providers.map(config => ({
    name: config.name,
    defaultModel: config.model,
    ...(config.embeds && { embeds: config.embeds }),
    // A server that is not configured explicitly and has never answered has no models.
    ...(config.lists && { listed: listed(config.name) ?? (config.explicit ? null : []) }),
    ...declaredParts(config, settings),
  }))

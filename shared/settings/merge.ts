import type { PriceOverride } from '#shared/models/price-overrides.ts'
import type { Aliases } from './aliases.ts'
import type { Endpoint } from './endpoint.ts'
import type { ProviderConfig } from './providers.ts'
import type { DeclaredProviders } from './providers-file.ts'

/** Where a provider is defined: in the settings, in `PROVIDERS_FILE`, or by `PUT /api/v1/providers/{name}`. */
export type ProviderSource = 'settings' | 'file' | 'api'

/** The providers of a process at one time, in the operator's order of preference. */
export type ProviderSettings = {
  providers: readonly ProviderConfig[]
  prices: readonly PriceOverride[]
  aliases: Aliases
  sources: ReadonlyMap<string, ProviderSource>
}

/** The providers of this process: those of the settings, of `PROVIDERS_FILE` and of the API, as they are now. */
export type ProviderRegistry = {
  current(): ProviderSettings
  /** The definition of a provider, as written; null: it has none, because the settings define it. */
  definition(name: string): object | null
  /** Calls the function after every change. */
  onChange(listener: (settings: ProviderSettings) => void): void
  /** Reads the definitions of the API now. @throws if Postgres is unavailable */
  refresh(): Promise<void>
  stop(): Promise<void>
}

/**
 * The definitions of all sources. A definition replaces the one of its name as a whole: those of the API come before those of the file,
 * and those before the settings. A replaced provider keeps its place; new ones follow, so that they change nothing for tasks that
 * name no provider.
 */
export function mergeProviders(
  settings: { providers: readonly ProviderConfig[]; prices: readonly PriceOverride[] },
  file: DeclaredProviders,
  api: readonly Endpoint[],
): ProviderSettings {
  const merged = new Map(settings.providers.map(one => [one.name, one]))
  const sources = new Map<string, ProviderSource>(settings.providers.map(one => [one.name, 'settings']))
  const replace = (config: ProviderConfig, source: ProviderSource) => {
    merged.set(config.name, config)
    sources.set(config.name, source)
  }
  for (const config of file.providers) replace(config, 'file')
  for (const { config } of api) replace(config, 'api')
  const rank = (name: string) => {
    const at = file.order.indexOf(name)
    return at < 0 ? file.order.length : at
  }
  const byApi = new Set(api.map(one => one.config.name))
  return {
    providers: [...merged.values()].toSorted((a, b) => rank(a.name) - rank(b.name)),
    prices: [
      ...api.flatMap(one => one.prices),
      ...file.prices.filter(one => !byApi.has(one.provider)),
      // A price for a server without a key does not outlive its replacement.
      ...settings.prices.filter(one => !one.last || sources.get(one.provider) === 'settings'),
    ],
    aliases: file.aliases,
    sources,
  }
}

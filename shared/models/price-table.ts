import type { ModelText, PriceText } from './price-rows.ts'
import type { ProviderName } from './providers.ts'

/** Part of the price version in every ledger row. Change it with any change below. */
export const TABLE_DATE = '2026-11-20'

/** Models that the package lacks or describes differently. They override the package. */
export const TABLE: { readonly [P in ProviderName]?: readonly ModelText[] } = {
  anthropic: [
    // The package and Anthropic's page state 0.2 for reading the cache. Verify that before lowering it here.
    claude('claude-opus-5-5', { input: '4', output: '20', cache_read: '0.4', cache_write: '5' }),
    // The package's pattern for Sonnet 5 matches it, by its prefix.
    claude('claude-sonnet-5-5', { input: '2', output: '10', cache_read: '0.2', cache_write: '2.5' }),
    claude('claude-haiku-5-5', {
      ...{ input: '0.1', output: '0.5', cache_read: '0.01', cache_write: '0.125' },
      bands: [{ above: 100_000, input: '0.5', output: '2.5', cache_read: '0.05', cache_write: '0.625' }],
    }),
  ],
  // It runs on the operator's own machine.
  ollama: [{ model: '*', match: '', prices: [{ input: '0', output: '0' }] }],
}

/** Price factor of the provider's batch API, for all tokens; absent: no batch API, or no known discount. */
export const BATCH_SHARE: { readonly [P in ProviderName]?: string } = { anthropic: '0.5', openai: '0.5' }

/** A model that matches its name and its dated names. */
function claude(model: string, price: PriceText): ModelText {
  return { model, match: `^${model}(-\\d{8})?$`, context: 1_000_000, prices: [price] }
}

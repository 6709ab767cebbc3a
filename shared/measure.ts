import type { Db } from '#shared/db/pool.ts'
import type { Metrics } from '#shared/metrics.ts'
import type { Prices } from '#shared/models/prices.ts'

export function observePool(metrics: Pick<Metrics, 'connections'>, db: Pick<Db, 'stats'>): void {
  for (const [state, count] of Object.entries(db.stats())) metrics.connections.set({ state }, count)
}

/** Names that a price stands for by a pattern, before they are all called that pattern. */
const MOST_NAMED = 50

export type ModelLabel = (provider: string, model: string) => string

/**
 * What a model is called in metrics, so that names which clients make up do not become series: as the price list calls it.
 * Of those that it has by a pattern only (`ollama/*`) the first some dozens keep their own names.
 */
export function createModelLabel(prices: Pick<Prices, 'priceOf'>): ModelLabel {
  const named = new Set<string>()
  return (provider, model) => {
    const price = prices.priceOf(provider, model)
    if (!price) return 'other'
    if (!price.model.endsWith('*')) return price.model
    const name = `${provider}/${model}`
    if (named.size < MOST_NAMED) named.add(name)
    return named.has(name) ? model : price.model
  }
}

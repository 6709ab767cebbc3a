import type { Db } from '#shared/db/pool.ts'
import type { Metrics } from './metrics.ts'

export function observePool(metrics: Pick<Metrics, 'connections'>, db: Pick<Db, 'stats'>): void {
  for (const [state, count] of Object.entries(db.stats())) metrics.connections.set({ state }, count)
}

/** Models with a price by pattern that keep their own names; the rest share the name of the pattern. */
const MAX_NAMED = 50

export type ModelLabel = (provider: string, model: string) => string

/**
 * The name of a model in metrics is its name in the price list, so that names which clients invent do not become series. Of
 * the models that match only a pattern (`ollama/*`), the first 50 keep their own names.
 */
export function createModelLabel(prices: {
  priceOf(provider: string, model: string): { model: string } | null
}): ModelLabel {
  const named = new Set<string>()
  return (provider, model) => {
    const price = prices.priceOf(provider, model)
    if (!price) return 'other'
    if (!price.model.endsWith('*')) return price.model
    const name = `${provider}/${model}`
    if (named.size < MAX_NAMED) named.add(name)
    return named.has(name) ? model : price.model
  }
}

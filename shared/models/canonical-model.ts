import { catalogueOf, onEndpointsDeclared } from './declared.ts'
import { BUILT_IN_PRICES } from './price-list.ts'

const MAX_KNOWN = 1000
const known = new Map<string, string>()
onEndpointsDeclared(() => known.clear())

/**
 * The canonical name for all names of a model, including dated names and aliases: the name in the price list. All names
 * share the limits of the provider. A model without a price keeps its name. Uses only the built-in prices, so that
 * processes with different settings agree.
 */
export function canonicalModel(provider: string, model: string): string {
  const name = `${provider}/${model}`
  let found = known.get(name)
  if (found === undefined) {
    found = find(catalogueOf(provider), model)
    // Bounded, because clients can invent names.
    if (known.size < MAX_KNOWN) known.set(name, found)
  }
  return found
}

function find(provider: string, model: string): string {
  // Ollama's default tag.
  if (provider === 'ollama') return model.replace(/(?<=.):latest$/, '')
  const entry = BUILT_IN_PRICES.find(one => one.provider === provider && one.matches(model))
  return entry && !entry.model.endsWith('*') ? entry.model : model
}

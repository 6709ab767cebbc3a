import { BUILT_IN } from './price-list.ts'

const MOST_KNOWN = 1000
const known = new Map<string, string>()

/**
 * One name for all the names of a model, dated ones and aliases: that in which its price is written down, for those share
 * what the provider permits. A model that has no price of its own goes by the name that it is called. By the built-in
 * prices alone, so that processes with other settings say the same.
 */
export function canonicalModel(provider: string, model: string): string {
  const name = `${provider}/${model}`
  let found = known.get(name)
  if (found === undefined) {
    found = find(provider, model)
    // Clients may make names up.
    if (known.size < MOST_KNOWN) known.set(name, found)
  }
  return found
}

function find(provider: string, model: string): string {
  // What Ollama takes a name without a tag for.
  if (provider === 'ollama') return model.replace(/(?<=.):latest$/, '')
  const entry = BUILT_IN.find(one => one.provider === provider && one.matches(model))
  return entry && !entry.model.endsWith('*') ? entry.model : model
}

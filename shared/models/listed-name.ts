import { catalogueOf } from './declared.ts'

/**
 * The name to send to a server that lists its models; null: it does not have the model. Ollama ignores case, adds the
 * tag `latest` and the namespace of its library. Other servers require the listed name.
 */
export function listedAs(provider: string, name: string, listed: readonly string[]): string | null {
  if (listed.includes(name)) return name
  if (catalogueOf(provider) !== 'ollama') return null
  const wanted = ollamaName(name)
  const found = listed.find(one => ollamaName(one) === wanted)
  if (found === undefined) return null
  // Unchanged, unless an older Ollama would not find it.
  return found === name || found === `${name}:latest` || `${found}:latest` === name ? name : found
}

const ollamaName = (name: string): string => {
  const short = name.toLowerCase().replace(/^(?:registry\.ollama\.ai\/)?library\/|^registry\.ollama\.ai\//, '')
  return /:[^/]*$/.test(short) ? short : `${short}:latest`
}

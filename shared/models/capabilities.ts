import { matchesName } from './name-pattern.ts'

/** What a model may be unable to do. */
export const CAPABILITIES = ['tools', 'images', 'schema', 'thinking'] as const
export type Capability = (typeof CAPABILITIES)[number]

/**
 * What a model can do. `images`: it reads images. `schema`: it can be held to a JSON Schema. `context`: tokens of prompt and answer
 * together. `output`: most tokens of one answer. Absent: unknown.
 */
export type ModelCapabilities = { readonly [C in Capability]?: boolean } & {
  readonly context?: number
  readonly output?: number
}

/** The operator's statements about a provider's models, by name or by a prefix that ends in `*`. */
export type DeclaredCapabilities = Readonly<Record<string, ModelCapabilities>>

/** What a request needs of its model. */
export type RequestNeeds = readonly Capability[]

/** The declared capabilities of a model: of its own name, otherwise of the longest prefix; empty: none are declared. */
export function declaredCapabilities<M extends ModelCapabilities>(
  declared: Readonly<Record<string, M>> | undefined,
  model: string,
): M | Record<string, never> {
  if (!declared) return {}
  if (Object.hasOwn(declared, model)) return declared[model]!
  const prefix = Object.keys(declared)
    .filter(one => one.endsWith('*') && matchesName(one, model))
    .sort((a, b) => b.length - a.length)[0]
  return prefix === undefined ? {} : declared[prefix]!
}

/** The needs that a model is known not to meet. An unknown capability counts as present: the provider decides. */
export const unmetNeeds = (capabilities: ModelCapabilities, needs: RequestNeeds): Capability[] =>
  needs.filter(need => capabilities[need] === false)

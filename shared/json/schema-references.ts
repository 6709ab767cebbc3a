/** Resolves the references of a JSON Schema of any draft, with its `$id`s, anchors and JSON pointers. */

export type Schema = Record<string, unknown>

export const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** @param path JSON pointer of the error within the schema */
export const schemaError = (path: string, message: string) => new Error(`${path || '(root)'} ${message}`)

/** Keywords whose value is an object of schemas by name. */
export const BY_NAME = new Set(['properties', 'patternProperties', 'dependentSchemas'])

export type Resolver = {
  /** The JSON pointer of a schema. */
  pathOf(value: Schema): string
  /** @returns the target; a string: the error */
  resolve(from: Schema, reference: string): Schema | boolean | string
}

const DATA = new Set(['enum', 'const', 'default', 'examples', 'example', 'required', 'dependentRequired'])
/** The base URI of a schema without `$id`. */
const DEFAULT_BASE = 'schema:///'

/** https://json-schema.org/draft/2020-12/json-schema-core#section-8.2 */
export function createResolver(root: Schema): Resolver {
  const byUri = new Map<string, Schema>([[DEFAULT_BASE, root]])
  const byAnchor = new Map<string, Schema>()
  const bases = new Map<Schema, string>()
  const paths = new Map<Schema, string>()
  const isDraft4 = typeof root.$schema === 'string' && root.$schema.includes('draft-04')
  const dynamic = new Set<unknown>()
  const pending: [value: unknown, base: string, path: string, named: boolean][] = [[root, DEFAULT_BASE, '', false]]
  for (let next = pending.pop(); next; next = pending.pop()) {
    const [value, outer, path, named] = next
    if (Array.isArray(value)) for (const [i, one] of value.entries()) pending.push([one, outer, `${path}/${i}`, false])
    if (!isSchema(value)) continue
    let base = outer
    if (!named) {
      const id = value.$id ?? (isDraft4 ? value.id : undefined)
      // `$id: "#name"` was an anchor until draft 7.
      if (typeof id === 'string' && id.startsWith('#')) byAnchor.set(`${base}${id}`, value)
      else if (typeof id === 'string') {
        base = uriOf(id, outer) ?? outer
        byUri.set(base, value)
      }
      for (const anchor of [value.$anchor, value.$dynamicAnchor])
        if (typeof anchor === 'string') byAnchor.set(`${base}#${anchor}`, value)
      if (value.$dynamicAnchor !== undefined) {
        // The target would be known only during validation.
        if (dynamic.has(value.$dynamicAnchor))
          throw schemaError(`${path}/$dynamicAnchor`, 'occurs twice: use $anchor and $ref')
        dynamic.add(value.$dynamicAnchor)
      }
      bases.set(value, base)
      paths.set(value, path)
    }
    for (const [key, one] of Object.entries(value)) {
      if (!named && DATA.has(key)) continue
      const isMap = !named && (BY_NAME.has(key) || key === '$defs' || key === 'definitions' || key === 'dependencies')
      pending.push([one, base, `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`, isMap])
    }
  }
  return {
    pathOf: value => paths.get(value) ?? '',
    resolve(from, reference) {
      const uri = uriOf(reference, bases.get(from) ?? DEFAULT_BASE)
      if (uri === null) return `is not a reference: ${quoted(reference)} is not a URI`
      const [document = '', fragment = ''] = uri.split('#', 2)
      const resource = byUri.get(document)
      if (!resource)
        return `refers to another document, which Sluice does not fetch: add its schema to $defs and refer to it there`
      const target =
        fragment === '' || fragment.startsWith('/')
          ? resolvePointer(resource, fragment)
          : byAnchor.get(`${document}#${fragment}`)
      if (isSchema(target) || typeof target === 'boolean') return target
      return `refers to ${quoted(reference)}, which is not in the schema: define it there, or correct the reference`
    },
  }
}

const quoted = (text: string) => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)

/** The absolute URI, without the empty fragment of older drafts. */
function uriOf(reference: string, base: string): string | null {
  try {
    return new URL(reference, base).href.replace(/#$/, '')
  } catch {
    return null
  }
}

/** Resolves a JSON pointer from the fragment of a URI. */
export function resolvePointer(resource: unknown, fragment: string): unknown {
  let value = resource
  for (const step of decodeUri(fragment).split('/').slice(1)) {
    if (typeof value !== 'object' || value === null) return undefined
    const key = step.replaceAll('~1', '/').replaceAll('~0', '~')
    value = Object.hasOwn(value, key) ? (value as Schema)[key] : undefined
  }
  return value
}

export function decodeUri(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

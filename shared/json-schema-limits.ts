/**
 * What a JSON Schema from outside may be. Compiling one holds up everybody's requests, and checking an answer by it everybody's
 * tasks; within these, compiling takes some 100 ms at most.
 */
export const SCHEMA_LIMITS = {
  /** Sub-schemas, their keywords (but for those that only describe) and entries of `enum` and `dependentRequired`. */
  keywords: 2000,
  /** Schemas that a `$ref` points to: they are compiled one within the other, on one stack. */
  definitions: 100,
  /** Of all `pattern`s and names in `patternProperties`. */
  patternCharacters: 4000,
  /** The same, with all that a `{n,m}` repeats written out. */
  patternSize: 5000,
  /** Schemas that one value is checked by, along `$ref`, `allOf` and their like: a few lines can double them 60 times. */
  visits: 10_000,
} as const

type Schema = Record<string, unknown>

const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Keywords that hold schemas which the very value is checked by that the schema itself is for … */
const HERE = ['allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'dependentSchemas', 'dependencies']
/** … those whose schemas are for what is in it, and those whose schemas wait to be referred to. */
const BELOW = [
  'properties',
  'patternProperties',
  'additionalProperties',
  'propertyNames',
  'items',
  'prefixItems',
  'contains',
  'unevaluatedItems',
  'unevaluatedProperties',
  '$defs',
  'definitions',
]
/** Of these the value is an object of schemas, by name. */
const BY_NAME = new Set(['dependentSchemas', 'dependencies', 'properties', 'patternProperties', '$defs', 'definitions'])
const REFERENCES = ['$ref', '$dynamicRef', '$recursiveRef']
const DESCRIBING = new Set(['title', 'description', '$comment', 'default', 'examples', 'deprecated', 'readOnly'])

function schemasOf(schema: Schema, keywords: readonly string[]): Schema[] {
  return keywords.flatMap(keyword => {
    const value = schema[keyword]
    if (Array.isArray(value)) return value.filter(isSchema)
    if (!isSchema(value)) return []
    return BY_NAME.has(keyword) ? Object.values(value).filter(isSchema) : [value]
  })
}

/** Why a schema is refused; null: it is not. To be asked before it is compiled; whether it is one at all is Ajv's to say. */
export function complaintOfSchema(root: Schema): string | null {
  const refer = referencesOf(root)
  const found = new Set([root])
  const targets = new Set<Schema>()
  let keywords = 0
  const patterns: string[] = []
  // A set is iterated over what is added on the way, too.
  for (const schema of found) {
    keywords += 1 + Object.keys(schema).filter(key => !DESCRIBING.has(key)).length
    for (const entries of [schema.enum, schema.dependentRequired]) {
      if (typeof entries === 'object' && entries !== null) keywords += Object.keys(entries).length
    }
    if (keywords > SCHEMA_LIMITS.keywords) {
      return `it has more than ${SCHEMA_LIMITS.keywords} keywords, sub-schemas and values of enums`
    }
    if (typeof schema.pattern === 'string') patterns.push(schema.pattern)
    if (isSchema(schema.patternProperties)) patterns.push(...Object.keys(schema.patternProperties))
    for (const target of refer(schema)) targets.add(target)
    for (const other of [...schemasOf(schema, HERE), ...schemasOf(schema, BELOW), ...refer(schema)]) found.add(other)
  }
  if (targets.size > SCHEMA_LIMITS.definitions) {
    return `it refers to more than ${SCHEMA_LIMITS.definitions} definitions`
  }
  return complaintOfPatterns(new Set(patterns)) ?? complaintOfVisits(found, refer)
}

function complaintOfPatterns(patterns: ReadonlySet<string>): string | null {
  let characters = 0
  let size = 0
  for (const pattern of patterns) {
    characters += pattern.length
    if (characters > SCHEMA_LIMITS.patternCharacters) {
      return `its patterns are longer than ${SCHEMA_LIMITS.patternCharacters} characters together`
    }
    size += sizeOfPattern(pattern)
    if (size > SCHEMA_LIMITS.patternSize) {
      return `its patterns repeat too much: written out they are longer than ${SCHEMA_LIMITS.patternSize}`
    }
  }
  return null
}

/** Characters and classes of a pattern, each as often as it is repeated. What is no pattern has some size, too. */
export function sizeOfPattern(pattern: string): number {
  /** Of the groups around: what stands in them before the one within. */
  const around: number[] = []
  let before = 0
  let last = 0
  const token = /\\[pP]\{[^{}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|\{(\d{1,9})(?:,(\d{0,9}))?\}|./gs
  for (const [piece, least, most] of pattern.matchAll(token)) {
    if (least !== undefined) {
      last *= Math.max(1, Number(least), Number(most || 0))
    } else if (piece === '(') {
      around.push(before + last)
      before = 0
      last = 0
    } else if (piece === ')') {
      last = before + last + 1
      before = around.pop() ?? 0
    } else {
      before += last
      last = 1
    }
  }
  return around.reduce((sum, one) => sum + one, before + last)
}

/** How many schemas one value is checked by. A schema that comes to itself on the way never ends. */
function complaintOfVisits(schemas: Iterable<Schema>, refer: (schema: Schema) => Schema[]): string | null {
  const counted = new Map<Schema, number>()
  const under = new Set<Schema>()
  const visits = (schema: Schema): number => {
    const known = counted.get(schema)
    if (known !== undefined) return known
    if (under.has(schema)) return Number.POSITIVE_INFINITY
    under.add(schema)
    const all = [...schemasOf(schema, HERE), ...refer(schema)].reduce((sum, one) => sum + visits(one), 1)
    under.delete(schema)
    counted.set(schema, all)
    return all
  }
  let most = 0
  for (const schema of schemas) most = Math.max(most, visits(schema))
  if (most === Number.POSITIVE_INFINITY) return 'it refers to itself without going on to what is within a value'
  return most > SCHEMA_LIMITS.visits
    ? `it checks one value by more than ${SCHEMA_LIMITS.visits} schemas, along its references`
    : null
}

/**
 * Finds what a schema refers to, in the same document; what is not there is left to Ajv, which refuses it.
 * https://json-schema.org/draft/2020-12/json-schema-core#section-8.2
 */
function referencesOf(root: Schema): (schema: Schema) => Schema[] {
  const byId = new Map<string, Schema>()
  const byAnchor = new Map<string, Schema>()
  /** The nearest schema around that has an `$id`: its `#`. */
  const resources = new Map<Schema, Schema>()
  const index = (value: unknown, resource: Schema) => {
    if (Array.isArray(value)) for (const one of value) index(one, resource)
    if (!isSchema(value)) return
    const own = typeof value.$id === 'string' ? value : resource
    resources.set(value, own)
    if (typeof value.$id === 'string') byId.set(value.$id.replace(/#$/, ''), value)
    for (const anchor of [value.$anchor, value.$dynamicAnchor]) {
      if (typeof anchor === 'string') byAnchor.set(anchor, value)
    }
    for (const one of Object.values(value)) index(one, own)
  }
  index(root, root)

  return schema =>
    REFERENCES.flatMap(keyword => {
      const reference = schema[keyword]
      if (typeof reference !== 'string') return []
      const [id = '', fragment = ''] = reference.split('#', 2)
      const resource = id === '' ? (resources.get(schema) ?? root) : byId.get(id)
      const target =
        resource && (fragment === '' || fragment.startsWith('/') ? at(resource, fragment) : byAnchor.get(fragment))
      return isSchema(target) ? [target] : []
    })
}

/** What a JSON pointer in the fragment of a URI points to. */
function at(resource: unknown, pointer: string): unknown {
  let value = resource
  for (const step of pointer.split('/').slice(1)) {
    if (typeof value !== 'object' || value === null) return undefined
    const key = decode(step).replaceAll('~1', '/').replaceAll('~0', '~')
    value = Object.hasOwn(value, key) ? (value as Schema)[key] : undefined
  }
  return value
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

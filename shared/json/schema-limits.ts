import { isSchema, resolvePointer, type Schema } from './schema-references.ts'

/**
 * Limits for JSON Schemas of clients. Compiling a schema blocks all requests of the process, and validation blocks all
 * its tasks. Within these limits, compiling takes at most about 100 ms.
 */
export const SCHEMA_LIMITS = {
  /** Subschemas, their keywords (except annotations) and the entries of `enum` and `dependentRequired`. */
  keywords: 2000,
  /** Targets of `$ref`, which Ajv compiles recursively, on one stack. */
  definitions: 100,
  /** Total length of all `pattern`s and names in `patternProperties`. */
  patternCharacters: 4000,
  /** The same with each `{n,m}` expanded. */
  patternSize: 5000,
  /**
   * Schemas that apply to one value, through `$ref`, `allOf` and similar keywords. A few lines can double them 60
   * times.
   */
  visits: 10_000,
} as const

/** Keywords whose subschemas apply to the same value as the schema. */
const IN_PLACE = ['allOf', 'anyOf', 'oneOf', 'not', 'if', 'then', 'else', 'dependentSchemas', 'dependencies']
/** Keywords whose subschemas apply to values within it, or only when referenced. */
const NESTED = [
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
/** Keywords whose value is an object of schemas by name. */
const BY_NAME = new Set(['dependentSchemas', 'dependencies', 'properties', 'patternProperties', '$defs', 'definitions'])
const REFERENCES = ['$ref', '$dynamicRef', '$recursiveRef']
const ANNOTATIONS = new Set(['title', 'description', '$comment', 'default', 'examples', 'deprecated', 'readOnly'])

function schemasOf(schema: Schema, keywords: readonly string[]): Schema[] {
  return keywords.flatMap(keyword => {
    const value = schema[keyword]
    if (Array.isArray(value)) return value.filter(isSchema)
    if (!isSchema(value)) return []
    return BY_NAME.has(keyword) ? Object.values(value).filter(isSchema) : [value]
  })
}

/**
 * Checks a schema against the limits, before it is compiled. Ajv checks its validity.
 * @returns the reason why it is refused; null: within the limits
 */
export function limitViolation(root: Schema): string | null {
  const refer = referencesOf(root)
  const found = new Set([root])
  const targets = new Set<Schema>()
  let keywords = 0
  const patterns: string[] = []
  // The iteration includes elements that are added to the set meanwhile.
  for (const schema of found) {
    keywords += 1 + Object.keys(schema).filter(key => !ANNOTATIONS.has(key)).length
    for (const entries of [schema.enum, schema.dependentRequired]) {
      if (typeof entries === 'object' && entries !== null) keywords += Object.keys(entries).length
    }
    if (keywords > SCHEMA_LIMITS.keywords) {
      return `it has more than ${SCHEMA_LIMITS.keywords} keywords, subschemas and enum values`
    }
    if (typeof schema.pattern === 'string') patterns.push(schema.pattern)
    if (isSchema(schema.patternProperties)) patterns.push(...Object.keys(schema.patternProperties))
    for (const target of refer(schema)) targets.add(target)
    for (const other of [...schemasOf(schema, IN_PLACE), ...schemasOf(schema, NESTED), ...refer(schema)])
      found.add(other)
  }
  if (targets.size > SCHEMA_LIMITS.definitions) {
    return `it refers to more than ${SCHEMA_LIMITS.definitions} definitions`
  }
  return patternViolation(new Set(patterns)) ?? visitViolation(found, refer)
}

function patternViolation(patterns: ReadonlySet<string>): string | null {
  let characters = 0
  let size = 0
  for (const pattern of patterns) {
    characters += pattern.length
    if (characters > SCHEMA_LIMITS.patternCharacters) {
      return `its patterns have more than ${SCHEMA_LIMITS.patternCharacters} characters in total`
    }
    size += sizeOfPattern(pattern)
    if (size > SCHEMA_LIMITS.patternSize) {
      return `its patterns repeat too much: expanded, they have more than ${SCHEMA_LIMITS.patternSize} characters`
    }
  }
  return null
}

/** Number of characters and classes of a pattern with all repetitions expanded. Defined for invalid patterns, too. */
export function sizeOfPattern(pattern: string): number {
  /** For each enclosing group, the size of the part before the current group. */
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

/** Counts the schemas that apply to one value. A schema that reaches itself this way would never end. */
function visitViolation(schemas: Iterable<Schema>, refer: (schema: Schema) => Schema[]): string | null {
  const counted = new Map<Schema, number>()
  const under = new Set<Schema>()
  const visits = (schema: Schema): number => {
    const known = counted.get(schema)
    if (known !== undefined) return known
    if (under.has(schema)) return Number.POSITIVE_INFINITY
    under.add(schema)
    const all = [...schemasOf(schema, IN_PLACE), ...refer(schema)].reduce((sum, one) => sum + visits(one), 1)
    under.delete(schema)
    counted.set(schema, all)
    return all
  }
  let most = 0
  for (const schema of schemas) most = Math.max(most, visits(schema))
  if (most === Number.POSITIVE_INFINITY) return 'it refers to itself without descending into a value'
  return most > SCHEMA_LIMITS.visits
    ? `its references apply more than ${SCHEMA_LIMITS.visits} schemas to one value`
    : null
}

/**
 * Finds the targets of a schema's references in the same document. Ajv refuses references without a target.
 * https://json-schema.org/draft/2020-12/json-schema-core#section-8.2
 */
function referencesOf(root: Schema): (schema: Schema) => Schema[] {
  const byId = new Map<string, Schema>()
  const byAnchor = new Map<string, Schema>()
  /** For each schema, the nearest enclosing one with an `$id`: the target of `#`. */
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
        resource &&
        (fragment === '' || fragment.startsWith('/') ? resolvePointer(resource, fragment) : byAnchor.get(fragment))
      return isSchema(target) ? [target] : []
    })
}

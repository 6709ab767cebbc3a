import { BY_NAME, createResolver, decodeUri, isSchema, type Schema, schemaError } from './schema-references.ts'

/**
 * Rewrites a JSON Schema of any draft since 4, or of OpenAPI 3, as draft 2020-12, the only dialect that is compiled and
 * converted for providers. All definitions move to `$defs` of the root, and all references become `#` or `#/$defs/…`,
 * whatever `$id`s, anchors and paths the original uses.
 */

const DRAFTS = ['draft-04', 'draft-06', 'draft-07', '2019-09', '2020-12'] as const
type Draft = (typeof DRAFTS)[number]

const DIALECTS: [RegExp, Draft][] = [
  [/^https?:\/\/json-schema\.org\/(draft-0[467])\/schema#?$/, 'draft-04'],
  [/^https?:\/\/json-schema\.org\/draft\/(2019-09|2020-12)\/schema#?$/, '2020-12'],
  [/^https?:\/\/json-schema\.org\/schema#?$/, '2020-12'],
  [/^https?:\/\/spec\.openapis\.org\/oas\/3\.1\/dialect\/(?:base|\d{4}-\d{2}-\d{2})$/, '2020-12'],
]

/** Keywords that contain one schema, and keywords that contain a list of schemas. */
const ONE = new Set(
  'additionalItems additionalProperties propertyNames items contains not if then else unevaluatedItems unevaluatedProperties contentSchema'.split(
    ' ',
  ),
)
const LIST = new Set(['allOf', 'anyOf', 'oneOf', 'prefixItems', 'items'])
/** Keywords that do not constrain a value, or that have been resolved. */
const DROPPED = new Set(
  '$schema $id id $anchor $dynamicAnchor $recursiveAnchor $vocabulary $defs definitions nullable additionalItems ~standard __proto__'.split(
    ' ',
  ),
)
const REFERENCES = ['$ref', '$dynamicRef', '$recursiveRef']
/** The keywords that are kept next to `$ref` in drafts that ignore all others there. */
const ANNOTATIONS = new Set('title description default examples $comment deprecated readOnly writeOnly'.split(' '))

/** @throws Error that names the path, the rule and the remedy */
export function toDraft2020(root: Schema): Schema {
  const resolver = createResolver(root)
  const targets = new Map<Schema | boolean, string>()
  const names = new Set<string>()
  const refer = (target: Schema | boolean, pointer: string): string => {
    if (target === root) return '#'
    let name = targets.get(target)
    if (name === undefined) {
      const wanted = decodeUri(pointer.split(/[/#]/).at(-1) || 'definition').replace(/[^\w.-]/g, '_')
      name = wanted
      for (let n = 2; names.has(name); n++) name = `${wanted}_${n}`
      names.add(name)
      targets.set(target, name)
    }
    return `#/$defs/${name}`
  }

  /** The new reference of each schema that has one. A target is written once and referenced everywhere else. */
  const referred = new Map<Schema, string>()
  const found = new Set<unknown>([root])
  // The iteration includes elements that are added to the set meanwhile.
  for (const schema of found) {
    if (!isSchema(schema)) continue
    for (const one of schemasIn(schema)) found.add(one)
    const keywords = REFERENCES.filter(one => typeof schema[one] === 'string')
    if (keywords.length === 0) continue
    const path = `${resolver.pathOf(schema)}/${keywords.at(-1)}`
    if (keywords.length > 1) throw schemaError(path, 'is next to another reference: move one of them into allOf')
    const reference = schema[keywords[0]!] as string
    const target = resolver.resolve(schema, reference)
    if (typeof target === 'string') throw schemaError(path, target)
    found.add(target)
    referred.set(schema, refer(target, reference))
  }

  const convert = (value: unknown, draft: Draft, written = false): unknown => {
    if (!isSchema(value)) return value
    const name = targets.get(value)
    if (name !== undefined && !written) return { $ref: `#/$defs/${name}` }
    const own = draftOf(value, resolver.pathOf(value)) ?? draft
    return nullable(value, keywordsOf(value, own, referred.get(value), convert))
  }
  const draft = draftOf(root, '') ?? '2020-12'
  const result = convert(root, draft, true) as Schema
  if (targets.size === 0) return result
  return {
    ...result,
    $defs: Object.fromEntries(Array.from(targets, ([one, name]) => [name, convert(one, draft, true)])),
  }
}

function schemasIn(schema: Schema): unknown[] {
  return Object.entries(schema).flatMap(([keyword, value]) => {
    if (LIST.has(keyword) && Array.isArray(value)) return value
    if (ONE.has(keyword)) return [value]
    return (BY_NAME.has(keyword) || keyword === 'dependencies') && isSchema(value) ? Object.values(value) : []
  })
}

/** @returns null: the schema does not name its draft */
function draftOf({ $schema }: Schema, path: string): Draft | null {
  if ($schema === undefined) return null
  for (const [pattern, draft] of DIALECTS) {
    const match = typeof $schema === 'string' ? pattern.exec($schema) : null
    if (match) return (match[1] as Draft | undefined) ?? draft
  }
  const known = DRAFTS.map(one => (one.startsWith('draft-') ? one : `draft ${one}`)).join(', ')
  throw schemaError(
    `${path}/$schema`,
    `is an unknown dialect (known: ${known}): omit it, or use https://json-schema.org/draft/2020-12/schema`,
  )
}

type Convert = (value: unknown, draft: Draft) => unknown

function keywordsOf(schema: Schema, draft: Draft, reference: string | undefined, convert: Convert): Schema {
  const result: Schema = {}
  const alone = reference !== undefined && draft.startsWith('draft-')
  for (const [keyword, value] of Object.entries(schema)) {
    if (DROPPED.has(keyword) || (REFERENCES.includes(keyword) && reference !== undefined)) continue
    if (alone && !ANNOTATIONS.has(keyword)) continue
    const map = (one: unknown) => convert(one, draft)
    if (keyword === 'items' && Array.isArray(value)) {
      // A tuple, until 2019-09.
      result.prefixItems = value.map(map)
      if (schema.additionalItems !== undefined) result.items = map(schema.additionalItems)
    } else if (keyword === 'dependencies' && isSchema(value)) dependencies(value, result, map)
    else if (LIST.has(keyword) && Array.isArray(value)) result[keyword] = value.map(map)
    else if (ONE.has(keyword)) result[keyword] = map(value)
    else if (BY_NAME.has(keyword) && isSchema(value)) {
      // Keeps a property named `__proto__`.
      result[keyword] = Object.fromEntries(Object.entries(value).map(([name, one]) => [name, map(one)]))
    } else if (/^exclusiveM(in|ax)imum$/.test(keyword) && typeof value === 'boolean') {
      // In draft 4 a boolean, which excludes the limit itself.
      const limit = keyword === 'exclusiveMinimum' ? 'minimum' : 'maximum'
      if (value && schema[limit] !== undefined) result[keyword] = schema[limit]
    } else result[keyword] = value
  }
  if (schema.exclusiveMinimum === true) delete result.minimum
  if (schema.exclusiveMaximum === true) delete result.maximum
  if (reference !== undefined) result.$ref = reference
  return result
}

function dependencies(value: Schema, result: Schema, map: (one: unknown) => unknown): void {
  const entries = Object.entries(value)
  const lists = entries.filter(([, one]) => Array.isArray(one))
  const schemas = entries.filter(([, one]) => !Array.isArray(one))
  if (lists.length > 0) result.dependentRequired = Object.fromEntries(lists)
  if (schemas.length > 0) result.dependentSchemas = Object.fromEntries(schemas.map(([name, one]) => [name, map(one)]))
}

/** Keywords that would also refuse the value `null`, so that `nullable` needs an `anyOf`. */
const ASSERTING = ['$ref', 'allOf', 'anyOf', 'oneOf', 'not', 'if', 'const']

/** Applies `nullable: true` of OpenAPI 3.0, which also allows null. */
function nullable(original: Schema, schema: Schema): Schema {
  if (original.nullable !== true) return schema
  if (ASSERTING.some(keyword => keyword in schema)) {
    const around = Object.entries(schema).filter(([keyword]) => ANNOTATIONS.has(keyword))
    const inner = Object.entries(schema).filter(([keyword]) => !ANNOTATIONS.has(keyword))
    return { ...Object.fromEntries(around), anyOf: [Object.fromEntries(inner), { type: 'null' }] }
  }
  const { type, enum: values } = schema
  const types = [type ?? []].flat()
  return {
    ...schema,
    ...(type !== undefined && !types.includes('null') && { type: [...types, 'null'] }),
    ...(Array.isArray(values) && !values.includes(null) && { enum: [...values, null] }),
  }
}

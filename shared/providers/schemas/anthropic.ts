import {
  alternativesOf,
  type Convert,
  DEFINITION,
  definitionOf,
  described,
  isSchema,
  mapSchemas,
  onlyDescribes,
  propertiesOf,
  type Schema,
  titleAndDescription,
  Unfit,
} from './parts.ts'

/**
 * https://platform.claude.com/docs/en/build-with-claude/structured-outputs: optional parameters and unions of one
 * request.
 */
const MAX_OPTIONAL = 24
const MAX_UNIONS = 16
const FORMATS = new Set('date-time time date duration email hostname uri ipv4 ipv6 uuid'.split(' '))

const isPrimitive = (value: unknown) => value === null || typeof value !== 'object'

/** Converts to the schemas of structured outputs, in which every object is closed. @throws Unfit */
export function toClosed(root: Schema): Schema {
  const definitions = new Map<unknown, Schema>()
  const open = new Set<unknown>()
  let optional = 0
  let unions = 0
  const refer = (reference: unknown): Schema => {
    // Recursive schemas are not supported.
    if (open.has(reference)) throw new Unfit()
    if (!definitions.has(reference)) {
      open.add(reference)
      definitions.set(reference, convert(definitionOf(root, reference)))
      open.delete(reference)
    }
    return { $ref: reference }
  }
  const convert: Convert = schema => {
    if (!isSchema(schema)) throw new Unfit()
    const { $ref, ...beside } = schema
    if ($ref !== undefined) {
      if (!onlyDescribes(beside)) throw new Unfit()
      return refer($ref)
    }
    const alternatives = alternativesOf(schema)
    if (alternatives?.length === 1)
      return { ...convert(alternatives[0]), ...described({}, titleAndDescription(schema)) }
    if (alternatives) {
      unions++
      return described({ anyOf: alternatives.map(convert) }, titleAndDescription(schema))
    }
    if (schema.enum !== undefined || schema.const !== undefined) return closedLiterals(schema)
    if (schema.type === 'object') {
      const required = new Set(Array.isArray(schema.required) ? schema.required : [])
      optional += Object.keys(propertiesOf(schema)).filter(name => !required.has(name)).length
      return closedObject(schema, convert)
    }
    if (schema.type === 'array') return closedArray(schema, convert)
    if (schema.type === 'string') return closedString(schema)
    const { type, ...rest } = schema
    if (typeof type !== 'string') throw new Unfit()
    return described({ type }, rest)
  }
  const result = convert(root)
  if (optional > MAX_OPTIONAL || unions > MAX_UNIONS) throw new Unfit()
  if (definitions.size === 0) return result
  const $defs = Object.fromEntries(
    Array.from(definitions, ([name, one]) => [String(name).slice(DEFINITION.length), one]),
  )
  return { ...result, $defs }
}

function closedLiterals(schema: Schema): Schema {
  const { enum: values, const: value } = schema
  const literals = values === undefined ? [value] : (values as unknown[])
  if (!Array.isArray(literals) || !literals.every(isPrimitive)) throw new Unfit()
  return described(values === undefined ? { const: value } : { enum: literals }, titleAndDescription(schema))
}

function closedObject(schema: Schema, convert: Convert): Schema {
  const {
    type,
    properties: _,
    additionalProperties: __,
    unevaluatedProperties: ___,
    patternProperties: ____,
    required,
    ...rest
  } = schema
  const properties = mapSchemas(propertiesOf(schema), convert)
  const closed = { type, properties, additionalProperties: false, ...(required !== undefined && { required }) }
  return described(closed, rest)
}

function closedArray({ type, items, minItems, ...rest }: Schema, convert: Convert): Schema {
  if (rest.prefixItems !== undefined) throw new Unfit()
  const minimum = minItems === 0 || minItems === 1 ? { minItems } : {}
  return described(
    { type, items: convert(items), ...minimum },
    { ...rest, ...(minItems !== undefined && !('minItems' in minimum) && { minItems }) },
  )
}

function closedString({ type, format, ...rest }: Schema): Schema {
  const isKnown = FORMATS.has(format as string)
  return described(
    { type, ...(isKnown && { format }) },
    { ...rest, ...(!isKnown && format !== undefined && { format }) },
  )
}

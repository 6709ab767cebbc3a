import {
  alternativesOf,
  type Convert,
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

/** Maximum number of subschemas after references are inlined. */
const MAX_INLINED = 1000
const KEYWORDS: Record<string, ReadonlySet<string>> = {
  object: new Set(['minProperties', 'maxProperties']),
  array: new Set(['minItems', 'maxItems']),
  string: new Set(['minLength', 'maxLength']),
  number: new Set(['minimum', 'maximum']),
  integer: new Set(['minimum', 'maximum']),
  boolean: new Set(),
  null: new Set(),
}

/** Converts to Google's subset of OpenAPI, with references inlined. @throws Unfit */
export function toGoogle(root: Schema): Schema {
  const open = new Set<unknown>()
  let count = 0
  const convert: Convert = schema => {
    if (!isSchema(schema) || ++count > MAX_INLINED) throw new Unfit()
    const { $ref, ...beside } = schema
    if ($ref !== undefined) {
      if (open.has($ref) || !onlyDescribes(beside)) throw new Unfit()
      open.add($ref)
      const inlined = convert(definitionOf(root, $ref))
      open.delete($ref)
      return { ...inlined, ...titleAndDescription(beside) }
    }
    const alternatives = alternativesOf(schema)
    if (alternatives?.length === 1) return { ...convert(alternatives[0]), ...titleAndDescription(schema) }
    if (alternatives) return described({ anyOf: alternatives.map(convert) }, titleAndDescription(schema))
    return convertTyped(schema, convert)
  }
  return convert(root)
}

const areStrings = (values: unknown[] | undefined): boolean => values?.every(one => typeof one === 'string') ?? false

function convertTyped(schema: Schema, convert: Convert): Schema {
  const { type: declared, ...others } = schema
  const literals = (others.const === undefined ? others.enum : [others.const]) as unknown[] | undefined
  const type = declared ?? (areStrings(literals) ? 'string' : undefined)
  const keywords = typeof type === 'string' ? KEYWORDS[type] : undefined
  if (!keywords) throw new Unfit()
  const result: Schema = { type }
  const rest: Schema = {}
  for (const [key, value] of Object.entries(others)) {
    if (key === '$defs' || key === 'unevaluatedProperties') continue
    if ((key === 'required' || key === 'additionalProperties') && type === 'object') result[key] = value
    else if (key === 'properties' && type === 'object') result.properties = mapSchemas(propertiesOf(schema), convert)
    else if (key === 'items' && type === 'array') result.items = convert(value)
    else if ((key === 'enum' || key === 'const') && type === 'string' && areStrings(literals)) result.enum = literals
    else if (keywords.has(key) || (key === 'format' && value === 'date-time')) result[key] = value
    else rest[key] = value
  }
  if (type === 'object') propertiesOf(schema)
  if (type === 'array' && (result.items === undefined || rest.prefixItems !== undefined)) throw new Unfit()
  return described(result, rest)
}

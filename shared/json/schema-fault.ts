/** An error of Ajv with `verbose: true`. */
export type SchemaError = {
  keyword: string
  instancePath: string
  schemaPath: string
  params: Record<string, unknown>
  message?: string | undefined
  propertyName?: string | undefined
  data?: unknown
  schema?: unknown
  parentSchema?: Record<string, unknown> | undefined
}

/**
 * The first error in a value. `field`: JSON pointer, '' for the value itself. `keyword`: the violated keyword of JSON
 * Schema. `message` continues a sentence about the field ("must be a string").
 */
export type SchemaFault = { field: string; keyword: string; message: string; allowed?: unknown[] }

const MAX_LISTED = 40

/** @param errors in Ajv's order: errors in the branches of an `anyOf` precede that of the `anyOf` itself */
export function describeFault(errors: readonly SchemaError[]): SchemaFault {
  const last = errors.at(-1)!
  if (last.keyword === 'anyOf' || last.keyword === 'oneOf') return describeUnion(last, errors.slice(0, -1))
  return describe(errors[0]!)
}

/** `/input/messages/0/content` -> `input.messages[0].content` */
export const fieldName = (pointer: string): string =>
  pointer
    .split('/')
    .slice(1)
    .map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part, i) => (/^\d+$/.test(part) && i > 0 ? `[${part}]` : i === 0 ? part : `.${part}`))
    .join('')

/** @param what name for the field, such as `parameter` */
export function faultSentence({ field, keyword, message }: Omit<SchemaFault, 'allowed'>, what = 'field'): string {
  const name = `\`${fieldName(field)}\``
  if (keyword === 'additionalProperties') return `Unknown ${what} ${name}${message}`
  return `${what === 'field' ? '' : `${what[0]!.toUpperCase()}${what.slice(1)} `}${name} ${message}`
}

function describe(error: SchemaError): SchemaFault {
  const { keyword, params, parentSchema = {}, propertyName } = error
  const child = (params.missingProperty ?? params.additionalProperty) as string | undefined
  const field = `${error.instancePath}${child === undefined ? '' : `/${escapePointer(child)}`}`
  const allowed = params.allowedValues as unknown[] | undefined
  const message = messageOf(error, parentSchema)
  if (propertyName !== undefined)
    return { field, keyword, message: `has the name ${quote(propertyName)}, which ${message}` }
  return { field, keyword, message, ...(allowed && { allowed }) }
}

function messageOf({ keyword, params, data, message }: SchemaError, schema: Record<string, unknown>): string {
  switch (keyword) {
    case 'required': {
      const properties = (schema.properties ?? {}) as Record<string, object>
      const wanted = schemaText(properties[params.missingProperty as string])
      return wanted === null ? 'is missing' : `is missing; it must be ${wanted}`
    }
    case 'additionalProperties': {
      const known = Object.keys((schema.properties ?? {}) as object)
      return known.length === 0 ? '' : `; known here: ${listed(known)}`
    }
    case 'type': {
      const wanted = schemaText(schema) ?? typeText(params.type)
      return `must be ${wanted}${typeof data === 'string' && wanted.includes('string') ? '' : `, not ${valueText(data)}`}`
    }
    case 'enum':
      return `must be one of ${listed((params.allowedValues as unknown[]).map(quote))}`
    case 'const':
      return `must be ${quote(params.allowedValue)}`
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum':
      return `must be ${rangeText(schema) ?? message}`
    case 'minLength':
    case 'maxLength':
      return lengthText(schema.minLength, schema.maxLength, 'character')
    case 'minItems':
    case 'maxItems':
      return lengthText(schema.minItems, schema.maxItems, 'item')
    case 'minProperties':
    case 'maxProperties':
      return lengthText(schema.minProperties, schema.maxProperties, 'field')
    case 'uniqueItems':
      return `must not have the same item twice (${params.j} and ${params.i})`
    case 'pattern':
      return patternText(schema, String(params.pattern))
    case 'format':
      return params.format === 'date-time'
        ? 'must be a time such as 2026-01-31T12:00:00Z'
        : `must be of the format ${params.format}`
    default:
      return message ?? 'is invalid'
  }
}

/** Messages for patterns that several schemas share. Others state their rule in `x-rule` or have an example. */
const PATTERN_TEXTS: Record<string, string> = {
  '\\S': 'must not be blank',
  '^[^\\r\\n]*$': 'must be a single line',
}

function patternText(schema: Record<string, unknown>, pattern: string): string {
  const rule = schema['x-rule']
  if (typeof rule === 'string') return `must be ${rule}`
  const [example] = (schema.examples ?? []) as unknown[]
  return PATTERN_TEXTS[pattern] ?? `must match ${pattern}${example === undefined ? '' : `, such as ${quote(example)}`}`
}

function lengthText(min: unknown, max: unknown, unit: string): string {
  const units = (count: unknown) => `${count} ${unit}${count === 1 ? '' : 's'}`
  if (max === undefined) return min === 1 ? 'must not be empty' : `must have at least ${units(min)}`
  if (min === undefined || min === 0) return `must have at most ${units(max)}`
  return min === max ? `must have ${units(min)}` : `must have ${min} to ${units(max)}`
}

function rangeText({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }: Record<string, unknown>): string | null {
  if (minimum !== undefined && maximum !== undefined) return `from ${minimum} to ${maximum}`
  const low =
    minimum !== undefined ? `at least ${minimum}` : exclusiveMinimum !== undefined && `above ${exclusiveMinimum}`
  const high =
    maximum !== undefined ? `at most ${maximum}` : exclusiveMaximum !== undefined && `below ${exclusiveMaximum}`
  return [low, high].filter(Boolean).join(' and ') || null
}

/** If only one branch accepts the type of the value, its error is more helpful than a list of all branches. */
function describeUnion(union: SchemaError, errors: readonly SchemaError[]): SchemaFault {
  const branches = ((union.parentSchema?.[union.keyword] ?? []) as object[]).map((schema, i) => ({
    schema,
    errors: errors.filter(one => one.schemaPath.startsWith(`${union.schemaPath}/${i}/`)),
  }))
  const near = branches.filter(({ errors: [first] }) => first && !isWrongType(first, union.instancePath))
  if (near.length === 1) return describeFault(near[0]!.errors)
  const wanted = [...new Set(branches.map(({ schema }) => schemaText(schema) ?? 'something else'))]
  const not = near.length === 0 ? `, not ${valueText(union.data)}` : ''
  return { field: union.instancePath, keyword: 'type', message: `must be ${either(wanted)}${not}` }
}

const isWrongType = ({ keyword, instancePath }: SchemaError, at: string) =>
  instancePath === at && (keyword === 'type' || keyword === 'const' || keyword === 'enum')

/** Describes the values that a schema accepts; null: any value. */
function schemaText(schema: unknown): string | null {
  if (typeof schema !== 'object' || schema === null) return null
  const { type, enum: values, items, const: constant, anyOf } = schema as Record<string, unknown>
  if (constant !== undefined) return quote(constant)
  if (Array.isArray(values)) return `one of ${listed(values.map(quote))}`
  if (Array.isArray(anyOf)) return either([...new Set(anyOf.map(one => schemaText(one) ?? 'any value'))])
  if (type === undefined) return null
  if (type !== 'array') return typeText(type)
  const each = schemaText(items)
  return each === null ? 'an array' : `an array of ${plural(each)}`
}

const TYPES: Record<string, string> = {
  string: 'a string',
  integer: 'an integer',
  number: 'a number',
  boolean: 'true or false',
  object: 'an object',
  array: 'an array',
  null: 'null',
}
const typeText = (type: unknown): string =>
  either((Array.isArray(type) ? type : String(type).split(',')).map(one => TYPES[one as string] ?? String(one)))

const plural = (text: string): string => text.replace(/^an? (\w+)/, '$1s')

function valueText(value: unknown): string {
  if (value === undefined) return 'missing'
  if (value === null) return 'null'
  if (typeof value === 'string') return value.length > 40 ? 'a string' : quote(value)
  if (typeof value === 'number') return String(value)
  return Array.isArray(value) ? 'an array' : typeof value === 'boolean' ? String(value) : 'an object'
}

const quote = (value: unknown): string => JSON.stringify(value)
const either = (texts: readonly string[]): string =>
  texts.length < 2 ? (texts[0] ?? 'something else') : `${texts.slice(0, -1).join(', ')} or ${texts.at(-1)}`
const listed = (texts: readonly string[]): string =>
  texts.length > MAX_LISTED ? `${texts.slice(0, MAX_LISTED).join(', ')}, …` : texts.join(', ')
const escapePointer = (name: string): string => name.replaceAll('~', '~0').replaceAll('/', '~1')

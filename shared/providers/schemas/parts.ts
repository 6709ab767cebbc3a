import { isRawNumber } from '#shared/json/lossless.ts'

/** Helpers of the conversions to the subsets of providers. */

export type Schema = Record<string, unknown>
export type Convert = (schema: unknown) => Schema

/** Thrown if a subset cannot express the schema. */
export class Unfit extends Error {}

export const isSchema = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !isRawNumber(value)

export const DEFINITION = '#/$defs/'

/** @throws Unfit */
export function definitionOf(root: Schema, reference: unknown): Schema {
  const found = (root.$defs as Schema | undefined)?.[String(reference).slice(DEFINITION.length)]
  if (!String(reference).startsWith(DEFINITION) || !isSchema(found)) throw new Unfit()
  return found
}

const ANNOTATIONS = new Set('title description default examples $comment deprecated readOnly writeOnly'.split(' '))
export const onlyDescribes = (schema: Schema) => Object.keys(schema).every(key => ANNOTATIONS.has(key))

export const titleAndDescription = ({ title, description }: Schema): Schema => ({
  ...(title !== undefined && { title }),
  ...(description !== undefined && { description }),
})

/**
 * Adds the keywords of `rest` to the description of a schema, as Anthropic's own SDK does, because they cannot be
 * enforced.
 */
export function described(schema: Schema, rest: Schema): Schema {
  const entries = Object.entries(rest).filter(([key]) => !ANNOTATIONS.has(key) && key !== '$defs')
  const { title, description } = rest
  const rules =
    entries.length > 0 ? `{${entries.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(', ')}}` : ''
  const text = [description, rules].filter(one => typeof one === 'string' && one !== '').join('\n\n')
  return { ...schema, ...(typeof title === 'string' && { title }), ...(text !== '' && { description: text }) }
}

/** The alternatives of a schema that has nothing else but annotations; null: another schema. @throws Unfit */
export function alternativesOf({ anyOf, oneOf, allOf, type, $defs: _, ...others }: Schema): unknown[] | null {
  if (anyOf === undefined && oneOf === undefined && allOf === undefined) {
    if (!Array.isArray(type) || others.enum !== undefined || others.const !== undefined) return null
    return type.map(one => (one === 'null' ? { type: one } : { ...forType(others, one), type: one }))
  }
  const only = anyOf ?? oneOf ?? allOf
  const several = [anyOf, oneOf, allOf].filter(one => one !== undefined).length > 1
  // Keywords next to them would apply to each alternative, and parts of an allOf can close what another part opens.
  if (several || type !== undefined || !onlyDescribes(others) || !Array.isArray(only)) throw new Unfit()
  if (allOf !== undefined && only.length !== 1) throw new Unfit()
  return only
}

const KEYWORDS_OF_TYPE: Record<string, RegExp> = {
  object: /propert|required|^dependent/i,
  array: /items|contains/i,
  string: /^(pattern|format|minLength|maxLength|content)/,
  number: /mum$|^multipleOf$/i,
}

/** The schema without keywords that do not apply to the type. */
function forType(schema: Schema, type: unknown): Schema {
  const own = KEYWORDS_OF_TYPE[type === 'integer' ? 'number' : String(type)]
  const others = Object.values(KEYWORDS_OF_TYPE).filter(one => one !== own)
  return Object.fromEntries(
    Object.entries(schema).filter(
      ([key]) =>
        (own?.test(key) || !others.some(other => other.test(key))) &&
        !(own !== KEYWORDS_OF_TYPE.string && ANNOTATIONS.has(key)),
    ),
  )
}

/** The properties of an object that allows no others. @throws Unfit if it does */
export function propertiesOf({
  properties = {},
  additionalProperties,
  unevaluatedProperties,
  patternProperties,
}: Schema): Schema {
  const isClosed =
    additionalProperties === false || (unevaluatedProperties === false && additionalProperties === undefined)
  if (!isClosed || Object.keys((patternProperties as Schema) ?? {}).length > 0 || !isSchema(properties))
    throw new Unfit()
  return properties
}

export const mapSchemas = (schemas: Schema, convert: Convert): Schema =>
  Object.fromEntries(Object.entries(schemas).map(([name, schema]) => [name, convert(schema)]))

/** Anthropic's structured outputs: objects must be closed, and an answer has only fields of the schema. */

type Schema = Record<string, unknown>

const isObject = (value: unknown): value is Schema =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const formatOf = (body: Schema): Schema | null => {
  const { format } = (body.output_config ?? {}) as { format?: { schema?: Schema } }
  return format?.schema ?? null
}

/** The message of a 400; null: the API accepts the schema. */
export function refusedFormat(schema: unknown, root: unknown = schema): string | null {
  if (Array.isArray(schema)) return schema.map(one => refusedFormat(one, root)).find(one => one !== null) ?? null
  if (!isObject(schema)) return null
  if (schema.type === 'object' && schema.additionalProperties !== false) {
    return "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
  }
  if (typeof schema.$ref === 'string' && !definitionOf(schema.$ref, root)) {
    return 'output_config.format.schema: a $ref cannot be resolved'
  }
  if ('definitions' in schema || '$schema' in schema) return 'output_config.format.schema: unknown keyword'
  return (
    Object.values(schema)
      .map(one => refusedFormat(one, root))
      .find(one => one !== null) ?? null
  )
}

const definitionOf = (reference: string, root: unknown): unknown =>
  ((root as Schema).$defs as Schema | undefined)?.[reference.replace('#/$defs/', '')]

/** Removes from a JSON text the fields that the schema does not allow. Returns other texts as they are. */
export function constrainedText(text: string, schema: Schema): string {
  try {
    return JSON.stringify(constrained(JSON.parse(text), schema, schema))
  } catch {
    return text
  }
}

function constrained(value: unknown, schema: unknown, root: Schema): unknown {
  if (!isObject(schema)) return value
  if (typeof schema.$ref === 'string') {
    return constrained(value, definitionOf(schema.$ref, root), root)
  }
  if (Array.isArray(value)) return value.map(one => constrained(one, schema.items, root))
  if (!isObject(value) || schema.type !== 'object') return value
  const properties = (schema.properties ?? {}) as Schema
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, one]) =>
      Object.hasOwn(properties, key) ? [[key, constrained(one, properties[key], root)]] : [],
    ),
  )
}

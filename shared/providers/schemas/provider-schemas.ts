import { toDraft2020 } from '#shared/json/schema-dialects.ts'
import { toClosed } from './anthropic.ts'
import { toGoogle } from './google.ts'
import { toGrammar } from './grammar.ts'
import { DEFINITION, definitionOf, onlyDescribes, type Schema } from './parts.ts'

/**
 * The part of a schema that each provider can enforce. It may allow more than the schema, because the kind's check
 * validates every answer, but never less: an object with free keys must not be closed, because the model could not
 * write its keys.
 */
export type ProviderSchemas = {
  /** The complete schema in draft 2020-12, with its definitions in `$defs`. */
  portable: Schema
  /** Whether every matching value is an object, as JSON modes require. */
  isObject: boolean
  /** For Anthropic's structured outputs; null: not expressible. */
  closed: Schema | null
  /** For Google's subset of OpenAPI, without references; null: not expressible. */
  google: Schema | null
  /** For the grammars of llama.cpp, which Ollama uses; null: not expressible. */
  grammar: Schema | null
}

const known = new WeakMap<Schema, ProviderSchemas>()

export function providerSchemas(schema: Schema): ProviderSchemas {
  let schemas = known.get(schema)
  if (!schemas) {
    const portable = inlineRoot(attempt(() => toDraft2020(schema)) ?? schema)
    const isObject = portable.type === 'object'
    schemas = {
      portable,
      isObject,
      closed: isObject ? attempt(() => toClosed(portable)) : null,
      google: isObject ? attempt(() => toGoogle(portable)) : null,
      grammar: attempt(() => toGrammar(portable)),
    }
    known.set(schema, schemas)
  }
  return schemas
}

function attempt<T>(convert: () => T): T | null {
  try {
    return convert()
  } catch {
    // Not only Unfit: a schema that an older version accepted may be invalid or too deep.
    return null
  }
}

/** Some generators write the root as a reference to a definition. */
function inlineRoot(schema: Schema): Schema {
  const { $ref, $defs, ...others } = schema
  if (typeof $ref !== 'string' || !$ref.startsWith(DEFINITION) || !onlyDescribes(others)) return schema
  const target = attempt(() => definitionOf(schema, $ref))
  return target && target.$ref === undefined ? { ...target, ...others, $defs } : schema
}

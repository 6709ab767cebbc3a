import { isSchema, type Schema, Unfit } from './parts.ts'

const DATA = new Set(['enum', 'const', 'default', 'examples', 'required', 'dependentRequired'])
const BY_NAME = new Set(['properties', '$defs', 'patternProperties', 'dependentSchemas'])

/**
 * Converts to the schemas of llama.cpp's grammars, by removing patterns: the grammars support only part of their
 * syntax, and an unsupported pattern fails the request.
 * @throws Unfit
 */
export function toGrammar(root: Schema): Schema {
  const convert = (value: unknown, named = false): unknown => {
    if (Array.isArray(value)) return value.map(one => convert(one))
    if (!isSchema(value)) return value
    if (!named && value.$ref === '#') throw new Unfit()
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => named || key !== 'pattern')
        .map(([key, one]) => [key, DATA.has(key) && !named ? one : convert(one, !named && BY_NAME.has(key))]),
    )
  }
  return convert(root) as Schema
}

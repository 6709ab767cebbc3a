import type { TSchema } from 'typebox'
import { Value } from 'typebox/value'

/** The fault to report: of several, the deepest, because a union reports each of its alternatives. */
export function firstFault(schema: TSchema, said: unknown): { pointer: string; message: string } {
  const faults = Value.Errors(schema, said)
  const deepest = faults.toSorted((a, b) => b.instancePath.split('/').length - a.instancePath.split('/').length)[0]
  const unknown = faults.find(one => one.keyword === 'additionalProperties')
  if (unknown) {
    const { additionalProperties = [] } = unknown.params as { additionalProperties?: string[] }
    const field = additionalProperties[0] ?? ''
    return { pointer: `${unknown.instancePath}/${escapePointer(field)}`, message: 'is an unknown field' }
  }
  const { allowedValues } = Object(deepest?.params) as { allowedValues?: unknown[] }
  const message = allowedValues ? `must be one of ${allowedValues.join(', ')}` : (deepest?.message ?? 'is invalid')
  return { pointer: deepest?.instancePath ?? '', message }
}

/** A part of a JSON pointer. */
export const escapePointer = (part: string): string => part.replaceAll('~', '~0').replaceAll('/', '~1')
export const unescapePointer = (part: string): string => part.replaceAll('~1', '/').replaceAll('~0', '~')

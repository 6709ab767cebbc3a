import { Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import { invalidField } from './invalid-field.ts'

/** Checks of values that a client sends and Postgres stores. `at`: the JSON pointer of the value in the request. */

export const MAX_METADATA_BYTES = 16_384

export const metadataSchema = Type.Record(Type.String(), Type.Unknown(), {
  description: `Your own data, returned unchanged. At most ${MAX_METADATA_BYTES} bytes.`,
})

/** @throws SluiceError invalid_text, naming the first string with U+0000 or a lone surrogate */
export function assertStorable(value: unknown, at = '', context: object = {}): void {
  const found = findUnstorable(value)
  if (found !== null)
    throw new SluiceError('invalid_text', undefined, { context: { field: `${at}${found}`, ...context } })
}

/** @throws SluiceError invalid_request */
export function assertDepth(value: unknown, at: string): void {
  if (isTooDeep(value)) throw invalidField(at, `is nested deeper than ${MAX_DEPTH} levels`)
}

/** Checks the size of a value as JSON. @throws SluiceError field_too_large */
export function assertSize(value: unknown, at: string, maxBytes: number): void {
  if (value === undefined || Buffer.byteLength(JSON.stringify(value)) <= maxBytes) return
  throw new SluiceError('field_too_large', undefined, { context: { field: at, limit_bytes: maxBytes } })
}

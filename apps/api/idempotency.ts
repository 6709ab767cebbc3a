import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { canonicalJson } from '#shared/canonical.ts'
import { SluiceError } from '#shared/errors.ts'

const MOST_CHARACTERS = 255
const PATTERN = '^[\\x21-\\x7e]+$'

/** The header, for a route's schema. @param made what it makes once */
export const idempotencyKey = (made: 'task' | 'batch') =>
  Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: MOST_CHARACTERS,
      pattern: PATTERN,
      description: `Same key, same body: the same ${made}, for 24 hours.`,
    }),
  )

/** Of any request, also one whose headers no schema has checked. null: there is none. @throws invalid_request */
export function idempotencyKeyOf({ headers }: FastifyRequest): string | null {
  const key = headers['idempotency-key']
  if (key === undefined) return null
  if (typeof key === 'string' && key.length <= MOST_CHARACTERS && new RegExp(PATTERN).test(key)) return key
  const field = '/idempotency-key'
  throw new SluiceError('invalid_request', `${field} must be 1 to ${MOST_CHARACTERS} printable characters`, {
    context: { field, in: 'headers' },
  })
}

/** What two requests have in common that are the same: SHA-256 of what they ask for, whatever the order of its fields. */
export const requestHash = (request: object): Buffer => createHash('sha256').update(canonicalJson(request)).digest()

export const mismatch = () =>
  new SluiceError('idempotency_mismatch', undefined, { context: { field: 'Idempotency-Key' } })

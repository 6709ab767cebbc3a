import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { canonicalJson } from '#shared/json/canonical.ts'

const MAX_CHARACTERS = 255
const RULE = `1 to ${MAX_CHARACTERS} printable ASCII characters without spaces`
const PATTERN = `^[\\x21-\\x7e]{1,${MAX_CHARACTERS}}$`

/** The header for the schema of a route. @param created the resource that a repeated request does not create again */
export const idempotencyKey = (created: 'task' | 'batch') =>
  Type.Optional(
    Type.String({
      pattern: PATTERN,
      'x-rule': RULE,
      description: `For 24 hours, a request with the same key and the same body returns the same ${created}.`,
    }),
  )

/** The key of a request whose headers were not checked by a schema; null: none. @throws SluiceError invalid_header */
export function idempotencyKeyOf({ headers }: FastifyRequest): string | null {
  const key = headers['idempotency-key']
  if (key === undefined) return null
  if (typeof key === 'string' && new RegExp(PATTERN).test(key)) return key
  const field = '/idempotency-key'
  throw new SluiceError('invalid_header', `Header \`idempotency-key\` must be ${RULE}.`, {
    context: { field, in: 'headers' },
  })
}

/** Equal for equal requests: SHA-256 of the canonical JSON, in which the order of fields does not matter. */
export const requestHash = (request: object): Buffer => createHash('sha256').update(canonicalJson(request)).digest()

export const mismatch = () =>
  new SluiceError('idempotency_mismatch', undefined, { context: { field: 'Idempotency-Key' } })

import type { FastifyError, FastifyRequest } from 'fastify'
import { SluiceError } from '#shared/errors.ts'
import { describeFault, faultSentence, type SchemaError } from '#shared/json/schema-fault.ts'

/** The name of a field in each part of a request. */
const FIELD_NAMES: Record<string, string> = {
  querystring: 'query parameter',
  headers: 'header',
  params: 'path parameter',
}

/** The error for a request that violates the schema of its route. */
export function validationError({ validation, validationContext = 'body' }: FastifyError): SluiceError {
  const fault = describeFault(validation as unknown as SchemaError[])
  const { keyword, allowed } = fault
  const context = {
    field: fault.field || '/',
    rule: keyword,
    ...(validationContext !== 'body' && { in: validationContext }),
    ...(allowed && { allowed }),
  }
  if (fault.field === '') return new SluiceError('invalid_request', `The body ${rootText(fault.message)}.`, { context })
  const message = `${faultSentence(fault, FIELD_NAMES[validationContext])}.`
  if (validationContext === 'headers') return new SluiceError('invalid_header', message, { context })
  if (keyword === 'additionalProperties') return new SluiceError('unknown_field', message, { context })
  return new SluiceError(keyword === 'maxLength' ? 'field_too_large' : 'invalid_request', message, { context })
}

// Fastify validates null if there is no body.
const rootText = (message: string) =>
  message.replace(/must be an object(?: or null)?, not null$/, 'is missing; it must be a JSON object')

/** The error 415 with the media types that the route accepts, in lower case and without parameters. */
export function unsupportedMediaType(
  { headers }: Pick<FastifyRequest, 'headers'>,
  types: readonly string[],
): SluiceError {
  const sent = headers['content-type']
  const received =
    sent === undefined
      ? 'No content-type was sent'
      : `The content-type "${sent.slice(0, 100)}" is not supported by this route`
  return new SluiceError('unsupported_media_type', `${received}. Send ${types.join(' or ')}.`, {
    context: { field: '/content-type', in: 'headers', accepted: types },
  })
}

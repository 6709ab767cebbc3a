import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { isUnavailable } from '#shared/db/pool.ts'
import { ERRORS, type ErrorCode, SluiceError } from '#shared/errors.ts'
import { FilesUnavailable } from '#shared/files/backend.ts'
import { GateUnavailable } from '#shared/gate/types.ts'
import { asAnthropic, asOpenAi, type Foreign, surfaceOf } from '../surfaces.ts'

/** Seconds after which a client should try again when the database or Redis is away. */
const RETRY_AFTER_SECONDS = 2

/**
 * Every error as an RFC 9457 problem document, or under /v1/ as the API that it mirrors says it: the SDKs understand
 * nothing else. What a 5xx was about stays in the log.
 */
export const errors = fp(
  async (app: FastifyInstance) => {
    app.setErrorHandler((error: FastifyError, request, reply) => {
      const known = toSluiceError(error)
      if (ERRORS[known.code].status === 500) request.log.error({ err: error }, 'request failed')
      else if (known.code === 'files_unavailable') request.log.warn({ err: error }, 'files cannot be reached')
      return sendProblem(request, reply, known)
    })
    app.setNotFoundHandler(sendNotFound)
  },
  { name: 'errors' },
)

export const sendNotFound = (request: FastifyRequest, reply: FastifyReply) =>
  sendProblem(request, reply, new SluiceError('not_found', `No route ${request.method} ${request.url.split('?')[0]}.`))

export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: SluiceError) {
  const { status, title, retryable, advice } = ERRORS[error.code]
  if (error.retryAfter !== null) reply.header('retry-after', error.retryAfter)
  const surface = surfaceOf(request)
  if (surface === 'openai') return sendForeign(reply, asOpenAi(error))
  if (surface === 'anthropic') return sendForeign(reply, asAnthropic(error, request.id))
  return reply
    .code(status)
    .type('application/problem+json')
    .send(
      JSON.stringify({
        type: `urn:sluice:error:${error.code}`,
        title,
        status,
        code: error.code,
        detail: error.message,
        retryable,
        advice,
        request_id: request.id,
        context: error.context,
      }),
    )
}

const sendForeign = (reply: FastifyReply, { status, headers, body }: Foreign) =>
  reply.code(status).headers(headers).type('application/json').send(JSON.stringify(body))

const BY_FASTIFY_CODE: Record<string, ErrorCode> = {
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_header',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
}

export function toSluiceError(error: FastifyError): SluiceError {
  if (error instanceof SluiceError) return error
  if (isUnavailable(error)) return new SluiceError('unavailable', undefined, { retryAfter: RETRY_AFTER_SECONDS })
  if (error instanceof FilesUnavailable)
    return new SluiceError('files_unavailable', undefined, { retryAfter: RETRY_AFTER_SECONDS })
  if (error instanceof GateUnavailable)
    return new SluiceError('gate_unavailable', undefined, { retryAfter: RETRY_AFTER_SECONDS })
  if (error.validation) return fromValidation(error)
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new SluiceError('body_too_large', undefined, { context: { field: '/', limit_bytes: BODY_LIMIT } })
  }
  const code = BY_FASTIFY_CODE[error.code]
  if (code) return new SluiceError(code, error.message, { context: { field: '/' } })
  if (error.statusCode === 400) return new SluiceError('invalid_json', error.message)
  // Of a plugin that serves files: a path that is none.
  if (error.statusCode === 403 || error.statusCode === 404) return new SluiceError('not_found')
  return new SluiceError('internal')
}

/** Most bytes of a request body. */
export const BODY_LIMIT = 8 * 1024 * 1024

function fromValidation(error: FastifyError): SluiceError {
  const { keyword, instancePath, message, params } = error.validation![0]!
  const named = (params.missingProperty ?? params.additionalProperty) as string | undefined
  const field = `${instancePath}${named === undefined ? '' : `/${named}`}` || '/'
  const where = error.validationContext === 'body' ? {} : { in: error.validationContext }
  const context = { field, ...where, ...(params.allowedValues ? { allowed: params.allowedValues } : {}) }
  if (keyword === 'maxLength') return new SluiceError('field_too_large', `${field} ${message}`, { context })
  if (keyword === 'required') return new SluiceError('invalid_request', `${field} is missing`, { context })
  if (keyword === 'additionalProperties')
    return new SluiceError('invalid_request', `${field} is not known`, { context })
  return new SluiceError('invalid_request', `${field} ${message}`, { context })
}

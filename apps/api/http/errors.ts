import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { isUnavailable } from '#shared/db/pool.ts'
import { ERRORS, type ErrorCode, SluiceError } from '#shared/errors.ts'
import { FilesUnavailable } from '#shared/files/backend.ts'
import { GateUnavailable } from '#shared/gate/types.ts'
import { asAnthropic, asOpenAi, type ErrorResponse, surfaceOf } from './error-formats.ts'
import { unsupportedMediaType, validationError } from './validation-error.ts'

/** `Retry-After` while Postgres, Redis or the file storage is unavailable. */
const RETRY_AFTER_SECONDS = 2

declare module 'fastify' {
  interface FastifyInstance {
    /** Answers a request without a route: 405 if the path has other methods, otherwise 404. */
    refuseRoute(request: FastifyRequest, reply: FastifyReply): FastifyReply
  }
}

/**
 * Answers errors as RFC 9457 problem documents, and under /v1/ in the format of the compatible API, which its SDKs require. Details
 * of a 500 go only to the log.
 */
export const errors = fp(
  async (app: FastifyInstance) => {
    app.setErrorHandler((error: FastifyError, request, reply) => {
      const known =
        error.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE'
          ? unsupportedMediaType(request, acceptedTypes(request))
          : toSluiceError(error)
      if (ERRORS[known.code].status === 500) request.log.error({ err: error }, 'request failed')
      else if (known.code === 'files_unavailable') request.log.warn({ err: error }, 'file storage is unavailable')
      return sendProblem(request, reply, known)
    })
    const methodsOf = collectMethods(app)
    app.decorate('refuseRoute', (request, reply) => {
      const methods = methodsOf(request.url.split('?')[0]!)
      if (methods.length === 0 || methods.includes(request.method)) return sendNotFound(request, reply)
      reply.header('allow', methods.join(', '))
      const detail = `${request.method} is not supported on this path. Supported: ${methods.join(', ')}.`
      return sendProblem(
        request,
        reply,
        new SluiceError('method_not_allowed', detail, { context: { allowed: methods } }),
      )
    })
    app.setNotFoundHandler((request, reply) => app.refuseRoute(request, reply))
  },
  { name: 'errors' },
)

/** The content types that a route accepts: those that it documents, or JSON. */
function acceptedTypes({ routeOptions }: FastifyRequest): readonly string[] {
  const { consumes } = (routeOptions.schema ?? {}) as { consumes?: string[] }
  return consumes ?? ['application/json']
}

/** @returns a function that lists the methods of a path, sorted */
function collectMethods(app: FastifyInstance): (path: string) => string[] {
  const routes: { pattern: RegExp; methods: string[] }[] = []
  app.addHook('onRoute', ({ url, method }) => {
    const parts = url
      .split('/')
      .map(part => (part === '*' ? '.*' : part.startsWith(':') ? '[^/]+' : part.replaceAll('.', '\\.')))
    routes.push({ pattern: new RegExp(`^${parts.join('/')}$`), methods: [method].flat() })
  })
  return path => [...new Set(routes.filter(one => one.pattern.test(path)).flatMap(one => one.methods))].toSorted()
}

export const sendNotFound = (request: FastifyRequest, reply: FastifyReply) =>
  sendProblem(request, reply, new SluiceError('not_found', `No route ${request.method} ${request.url.split('?')[0]}.`))

/** RFC 6750, 3. */
const CHALLENGES: Partial<Record<ErrorCode, string>> = { invalid_api_key: 'Bearer error="invalid_token"' }

export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: SluiceError) {
  const { status, title, retryable, advice } = ERRORS[error.code]
  if (error.retryAfter !== null) reply.header('retry-after', error.retryAfter)
  if (status === 401 && !reply.hasHeader('www-authenticate'))
    reply.header('www-authenticate', CHALLENGES[error.code] ?? 'Bearer')
  const surface = surfaceOf(request)
  if (surface === 'openai') return sendCompatible(reply, asOpenAi(error))
  if (surface === 'anthropic') return sendCompatible(reply, asAnthropic(error, request.id))
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

const sendCompatible = (reply: FastifyReply, { status, headers, body }: ErrorResponse) =>
  reply.code(status).headers(headers).type('application/json').send(JSON.stringify(body))

const BY_FASTIFY_CODE: Record<string, ErrorCode> = {
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
  if (error.validation) return validationError(error)
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new SluiceError('body_too_large', `The body is larger than ${BODY_LIMIT / 1_048_576} MB.`, {
      context: { field: '/', limit_bytes: BODY_LIMIT },
    })
  }
  const code = BY_FASTIFY_CODE[error.code]
  if (code) return new SluiceError(code, error.message, { context: { field: '/' } })
  if (error.statusCode === 400) return new SluiceError('invalid_json', error.message)
  // From the plugin that serves the files of /docs: the path is not a file.
  if (error.statusCode === 403 || error.statusCode === 404) return new SluiceError('not_found')
  return new SluiceError('internal')
}

/** Maximum bytes of a request body. */
export const BODY_LIMIT = 8 * 1024 * 1024

import type { FastifyError, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { StoreUnavailable } from './store.ts'

/** What a client did wrong. `field`: of the body or the query. */
export class RequestError extends Error {
  readonly status: number
  readonly code: string
  readonly field: string | null

  constructor(status: number, code: string, message: string, field: string | null = null) {
    super(message)
    this.status = status
    this.code = code
    this.field = field
  }
}

/** Errors as `{code, message, field?}`. What a 5xx was about stays in the log. */
export const errors = fp(
  async (app: FastifyInstance) => {
    app.setErrorHandler((error: FastifyError, request, reply) => {
      if (error instanceof StoreUnavailable) {
        request.log.warn({ err: error }, 'postgres is away')
        reply.header('retry-after', 2).code(503)
        return reply.send({ code: 'unavailable', message: 'Comments cannot be stored or read at the moment.' })
      }
      const known = toRequestError(error)
      if (known) {
        const { code, message, field } = known
        return reply.code(known.status).send({ code, message, ...(field !== null && { field }) })
      }
      request.log.error({ err: error }, 'request failed')
      return reply.code(500).send({ code: 'internal', message: 'Something went wrong.' })
    })
    app.setNotFoundHandler((_, reply) =>
      reply.code(404).send({ code: 'not_found', message: 'There is no such route.' }),
    )
  },
  { name: 'errors' },
)

function toRequestError(error: FastifyError): RequestError | null {
  if (error instanceof RequestError) return error
  if (error.validation) return fromValidation(error.validation[0]!)
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new RequestError(413, 'body_too_large', error.message)
  if (error.statusCode !== undefined && error.statusCode < 500)
    return new RequestError(error.statusCode, 'invalid_request', error.message)
  return null
}

const COMPLAINTS: Record<string, string> = {
  required: 'is missing',
  additionalProperties: 'is not known',
  pattern: 'must not be blank',
  format: 'is not a cursor',
}

function fromValidation({ keyword, instancePath, message, params }: NonNullable<FastifyError['validation']>[number]) {
  const named = (params.missingProperty ?? params.additionalProperty) as string | undefined
  const field = named ?? (instancePath.slice(1) || null)
  return new RequestError(400, 'invalid_request', `${field ?? 'the body'} ${COMPLAINTS[keyword] ?? message}`, field)
}

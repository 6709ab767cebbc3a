import type { FastifyError, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { StoreUnavailable } from './database.ts'
import { PATTERNS } from './fields.ts'
import { HttpError } from './http-error.ts'

const RETRY_AFTER_SECONDS = 2

/** Errors as `{code, message, field?}`. What a 500 was about stays in the log. `storeAway` says it when Postgres is away. */
export const errors = fp(
  async (app: FastifyInstance, { storeAway }: { storeAway: string }) => {
    app.setErrorHandler((error: FastifyError, request, reply) => {
      if (error instanceof StoreUnavailable) request.log.warn({ err: error }, 'postgres is away')
      const known = toHttpError(error, storeAway)
      if (known) {
        const { code, message, field } = known
        if (known.status === 503) reply.header('retry-after', RETRY_AFTER_SECONDS)
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

function toHttpError(error: FastifyError, storeAway: string): HttpError | null {
  if (error instanceof HttpError) return error
  if (error instanceof StoreUnavailable) return new HttpError(503, 'unavailable', storeAway)
  if (error.validation) return fromValidation(error.validation[0]!)
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new HttpError(413, 'body_too_large', error.message)
  if (error.statusCode !== undefined && error.statusCode < 500)
    return new HttpError(error.statusCode, 'invalid_request', error.message)
  return null
}

const COMPLAINTS: Record<string, string> = {
  required: 'is missing',
  additionalProperties: 'is not known',
  format: 'is not a cursor',
}

function fromValidation({ keyword, instancePath, message, params }: NonNullable<FastifyError['validation']>[number]) {
  const named = (params.missingProperty ?? params.additionalProperty) as string | undefined
  const field = named ?? (instancePath.slice(1) || null)
  const allowed = (params.allowedValues as unknown[] | undefined)?.join(', ')
  const complaint =
    COMPLAINTS[keyword] ?? PATTERNS[params.pattern as string] ?? (allowed ? `must be one of ${allowed}` : message)
  return new HttpError(400, 'invalid_request', `${field ?? 'the body'} ${complaint}`, field)
}

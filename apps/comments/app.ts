import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { Ajv } from 'ajv'
import Fastify, { type FastifyInstance, LogController } from 'fastify'
import type { CommentsDeps } from './deps.ts'
import { errors } from './errors.ts'
import { comments } from './routes/comments.ts'
import { operations } from './routes/operations.ts'

/** Ten thousand characters, written as JSON by whoever escapes each, and the rest. */
const BODY_LIMIT = 128 * 1024

/** The HTTP face, ready to listen or to be injected into. */
export async function buildApp(deps: CommentsDeps): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: deps.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT,
    requestTimeout: 10_000,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
  }).withTypeProvider<TypeBoxTypeProvider>()

  // A body is taken literally; a query is text and is converted.
  const body = new Ajv({ coerceTypes: false, strict: false })
  const text = new Ajv({ coerceTypes: true, useDefaults: true, strict: false })
  text.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema as object))

  await app.register(errors)
  await app.register(comments, deps)
  await app.register(operations, deps)
  return app
}

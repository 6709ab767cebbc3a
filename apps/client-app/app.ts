import type { FastifyPluginAsyncTypebox, TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { Ajv } from 'ajv'
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify'
import { errors } from './errors.ts'
import { type OperationsDeps, operations } from './operations.ts'

/** The longest texts that an application takes, written as JSON by whoever escapes each character, and the rest. */
const BODY_LIMIT = 128 * 1024

export type AppDeps = OperationsDeps & {
  log: FastifyBaseLogger
  /** What is said when Postgres is away. */
  storeAway: string
  routes: FastifyPluginAsyncTypebox
}

/** The HTTP face, ready to listen or to be injected into: the application's routes, health and metrics. */
export async function buildApp({ routes, ...deps }: AppDeps): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: deps.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT,
    requestTimeout: 10_000,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
  }).withTypeProvider<TypeBoxTypeProvider>()

  // A body is taken literally; a query is text and is converted.
  const body = new Ajv({ coerceTypes: false, useDefaults: true, strict: false })
  const text = new Ajv({ coerceTypes: true, useDefaults: true, strict: false })
  text.addFormat('uuid', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema as object))

  await app.register(errors, deps)
  await app.register(routes)
  await app.register(operations, deps)
  return app
}

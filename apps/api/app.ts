import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { Ajv } from 'ajv'
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import { traceIds } from '#shared/tracing/tracing.ts'
import packageJson from '../../package.json' with { type: 'json' }
import type { ApiDeps } from './deps.ts'
import { auth } from './plugins/auth.ts'
import { bodyTime, MOST_BODY_MS } from './plugins/body-time.ts'
import { BODY_LIMIT, errors, sendNotFound } from './plugins/errors.ts'
import { observe } from './plugins/observe.ts'
import { onlyOpenAi } from './plugins/only-openai.ts'
import { openapi } from './plugins/openapi.ts'
import { queuesDashboard } from './plugins/queues.ts'
import { trace } from './plugins/trace.ts'
import { analytics } from './routes/analytics.ts'
import { batchUpload } from './routes/batch-upload.ts'
import { batches } from './routes/batches.ts'
import { budgets } from './routes/budgets.ts'
import { collections } from './routes/collections.ts'
import { documents } from './routes/documents.ts'
import { events } from './routes/events.ts'
import { experiments } from './routes/experiments.ts'
import { feedback } from './routes/feedback.ts'
import { keys } from './routes/keys.ts'
import { limits } from './routes/limits.ts'
import { models } from './routes/models.ts'
import { openAiBatches } from './routes/openai-batches.ts'
import { openAiEmbeddings } from './routes/openai-embeddings.ts'
import { openAiFiles } from './routes/openai-files.ts'
import { openAiModerations } from './routes/openai-moderations.ts'
import { operations } from './routes/operations.ts'
import { policies } from './routes/policies.ts'
import { precomputed } from './routes/precomputed.ts'
import { providers } from './routes/providers.ts'
import { reviews } from './routes/reviews.ts'
import { scale } from './routes/scale.ts'
import { submit } from './routes/submit.ts'
import { tasks } from './routes/tasks.ts'
import { webhooks } from './routes/webhooks.ts'

/** The HTTP face, ready to listen or to be injected into. */
export async function buildApp(deps: ApiDeps): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: deps.logger as FastifyBaseLogger,
    // A line a request costs as much as accepting a task: errors are logged, requests are counted.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    childLoggerFactory: (logger, bindings, options, { headers }) =>
      logger.child({ ...bindings, ...traceIds(headers.traceparent) }, options),
    bodyLimit: BODY_LIMIT,
    requestIdHeader: false,
    genReqId: request => requestId(request.headers['x-request-id']),
    // That of an upload; `bodyTime` bounds the others.
    requestTimeout: MOST_BODY_MS,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200 },
    // A URL that cannot be decoded: Fastify answers by itself, without hooks.
    frameworkErrors: (_, request, reply) => {
      reply.header('x-request-id', request.id)
      return sendNotFound(request as FastifyRequest, reply as FastifyReply)
    },
  }).withTypeProvider<TypeBoxTypeProvider>()

  // Many clients name a content type even where there is no body, as for `cancel`.
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text: string, done) =>
    text === '' ? done(null, undefined) : parseJson(request, text, done),
  )

  // Bodies are taken literally; what comes in a URL or a header is text and is converted.
  const body = new Ajv({ useDefaults: true, coerceTypes: false, removeAdditional: false, strict: false })
  const text = new Ajv({ useDefaults: true, coerceTypes: true, removeAdditional: false, strict: false })
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? body : text).compile(schema as object))
  // The response schemas are documentation, held to be true by a test; JSON.stringify is as fast for these shapes.
  app.setSerializerCompiler(() => data => JSON.stringify(data))

  await app.register(errors)
  await app.register(observe, deps)
  await app.register(trace, { tracing: deps.tracing })
  await app.register(bodyTime, {})
  await app.register(onlyOpenAi)
  await app.register(auth, { keys: deps.keys, take: deps.take })
  await app.register(openapi, { version: packageJson.version })
  await app.register(operations, deps)
  await app.register(scale, deps)
  await app.register(keys, deps)
  await app.register(models, deps)
  await app.register(budgets, deps)
  await app.register(analytics, deps)
  await app.register(providers, deps)
  await app.register(limits, deps)
  await app.register(precomputed, deps)
  await app.register(policies, deps)
  await app.register(reviews, deps)
  await app.register(collections, deps)
  await app.register(documents, deps)
  await app.register(submit, deps)
  await app.register(tasks, deps)
  await app.register(events, deps)
  await app.register(experiments, deps)
  await app.register(feedback, deps)
  await app.register(openAiFiles, deps)
  await app.register(openAiBatches, deps)
  await app.register(openAiModerations, deps)
  await app.register(openAiEmbeddings, deps)
  await app.register(batchUpload, deps)
  await app.register(batches, deps)
  await app.register(webhooks, deps)
  await app.register(queuesDashboard, deps)
  return app
}

/** The caller's own id if it is a decent one, so that it can follow a request through its logs and ours. */
const requestId = (header: string | string[] | undefined): string =>
  typeof header === 'string' && /^[\w.:-]{1,128}$/.test(header) ? header : randomUUID()

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
import { anthropicMessages } from './anthropic/messages.ts'
import { batchUpload } from './batches/batch-upload.ts'
import { batches } from './batches/routes.ts'
import { analytics } from './budgets/analytics.ts'
import { budgets } from './budgets/routes.ts'
import { documents } from './collections/documents.ts'
import { collections } from './collections/routes.ts'
import type { ApiDeps } from './deps.ts'
import { feedback } from './experiments/feedback.ts'
import { experiments } from './experiments/routes.ts'
import { auth } from './http/auth.ts'
import { body, isUnread } from './http/body.ts'
import { bodyTimeout, MAX_BODY_MS } from './http/body-timeout.ts'
import { BODY_LIMIT, errors, sendNotFound } from './http/errors.ts'
import { openapi } from './http/openapi.ts'
import { requestMetrics } from './http/request-metrics.ts'
import { surfaces } from './http/surfaces.ts'
import { trace } from './http/trace.ts'
import { policies } from './moderation/policies.ts'
import { reviews } from './moderation/reviews.ts'
import { openAiBatches } from './openai/batches.ts'
import { openAiChatCompletions } from './openai/chat-completions.ts'
import { openAiEmbeddings } from './openai/embeddings.ts'
import { openAiFiles } from './openai/files.ts'
import { openAiModerations } from './openai/moderations.ts'
import { openAiStoredCompletions } from './openai/stored-completions.ts'
import { keyWebhookSecrets } from './operations/key-webhook-secrets.ts'
import { keys } from './operations/keys.ts'
import { queueDashboard } from './operations/queue-dashboard.ts'
import { operations } from './operations/routes.ts'
import { scale } from './operations/scale.ts'
import { webhooks } from './operations/webhooks.ts'
import { compatibleModels } from './providers/compatible-models.ts'
import { definitions } from './providers/definitions.ts'
import { limits } from './providers/limits.ts'
import { models } from './providers/models.ts'
import { providers } from './providers/routes.ts'
import { openAiResponses } from './responses/routes.ts'
import { events } from './tasks/events.ts'
import { precomputed } from './tasks/precomputed.ts'
import { tasks } from './tasks/routes.ts'
import { submit } from './tasks/submit.ts'

const MIB = 1_048_576
/** Memory of one upload: two file chunks, and with S3 also a part of 5 MiB. */
const UPLOAD_BYTES = MIB
const S3_UPLOAD_BYTES = 6 * MIB

/** Builds the HTTP application. It does not listen yet. */
export async function buildApp(deps: ApiDeps): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: deps.logger as FastifyBaseLogger,
    // A log line per request would cost as much as accepting a task. Errors are logged, requests are counted.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    childLoggerFactory: (logger, bindings, options, { headers }) =>
      logger.child({ ...bindings, ...traceIds(headers.traceparent) }, options),
    bodyLimit: BODY_LIMIT,
    requestIdHeader: false,
    genReqId: request => requestId(request.headers['x-request-id']),
    // The time for an upload; `bodyTimeout` bounds other requests.
    requestTimeout: MAX_BODY_MS,
    return503OnClosing: false,
    forceCloseConnections: 'idle',
    routerOptions: { maxParamLength: 200 },
    // For a URL that cannot be decoded Fastify answers without running hooks.
    frameworkErrors: (_, request, reply) => {
      reply.header('x-request-id', request.id)
      if (isUnread(request as FastifyRequest)) reply.header('connection', 'close')
      return sendNotFound(request as FastifyRequest, reply as FastifyReply)
    },
  }).withTypeProvider<TypeBoxTypeProvider>()

  // Values in bodies are not converted; values in URLs and headers are text and are converted.
  // `verbose`: errors contain the failed schema, from which their messages are made.
  const common = { useDefaults: true, removeAdditional: false, strict: false, verbose: true } as const
  const literal = new Ajv({ ...common, coerceTypes: false })
  const text = new Ajv({ ...common, coerceTypes: true })
  app.setValidatorCompiler(({ schema, httpPart }) => (httpPart === 'body' ? literal : text).compile(schema as object))
  // Response schemas are documentation that tests verify; JSON.stringify is as fast for these shapes.
  app.setSerializerCompiler(() => data => JSON.stringify(data))

  await app.register(errors)
  await app.register(requestMetrics, deps)
  await app.register(trace, { tracing: deps.tracing })
  await app.register(bodyTimeout, {})
  await app.register(surfaces)
  await app.register(body, {
    maxBytes: deps.config.BODY_MEMORY_MB * MIB,
    uploadBytes: deps.config.FILES_URL ? S3_UPLOAD_BYTES : UPLOAD_BYTES,
  })
  await app.register(auth, { keys: deps.keys, take: deps.take })
  await app.register(openapi, { version: packageJson.version })
  await app.register(operations, deps)
  await app.register(scale, deps)
  await app.register(keys, deps)
  await app.register(keyWebhookSecrets, deps)
  await app.register(models, deps)
  await app.register(compatibleModels, deps)
  await app.register(budgets, deps)
  await app.register(analytics, deps)
  await app.register(providers, deps)
  await app.register(definitions, deps)
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
  await app.register(openAiResponses, deps)
  await app.register(openAiFiles, deps)
  await app.register(anthropicMessages, deps)
  await app.register(openAiBatches, deps)
  await app.register(openAiChatCompletions, deps)
  await app.register(openAiStoredCompletions, deps)
  await app.register(openAiModerations, deps)
  await app.register(openAiEmbeddings, deps)
  await app.register(batchUpload, deps)
  await app.register(batches, deps)
  await app.register(webhooks, deps)
  await app.register(queueDashboard, deps)
  return app
}

/** The id that the client sent, if it is valid, so that its logs and ours name the request alike. */
const requestId = (header: string | string[] | undefined): string =>
  typeof header === 'string' && /^[\w.:-]{1,128}$/.test(header) ? header : randomUUID()

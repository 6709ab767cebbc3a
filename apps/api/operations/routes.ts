import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { sharedAnswer, singleFlight } from '#shared/concurrency/single-flight.ts'
import { schemaIsCurrent } from '#shared/db/schema-version.ts'
import { listWorkers, type ProviderState } from '#shared/db/workers.ts'
import type { TargetState } from '#shared/gate/types.ts'
import { toWire } from '#shared/ids.ts'
import { withDeadline } from '#shared/process/lifecycle.ts'
import type { ApiDeps } from '../deps.ts'
import { textResponse } from '../http/openapi.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import { stateOf } from '../providers/provider-json.ts'
import { statesByProvider } from '../providers/provider-status.ts'
import { createGauges } from './gauges.ts'

const CHECK_MS = 2000

const readySchema = Type.Object({
  status: Type.Enum(['ok', 'degraded', 'unavailable']),
  parts: Type.Record(Type.String(), Type.String()),
})

/** For operators: workers, health, metrics. */
export const operations: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, providerStatus, redisHealth, metrics, draining } = deps
  const refresh = createGauges(deps)

  app.get(
    '/api/v1/workers',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['operations'],
        summary: 'List the live workers',
        response: {
          200: Type.Object({
            data: Type.Array(
              Type.Object({
                id: Type.String(),
                pid: Type.Integer(),
                host: Type.String(),
                queues: Type.Array(Type.String()),
                concurrency: Type.Integer(),
                active: Type.Integer(),
                providers: Type.Record(Type.String(), Type.Enum(['ok', 'failing', 'unreachable']), {
                  description: 'The state of each provider, from this worker’s own calls.',
                }),
                metrics_port: nullable(Type.Integer()),
                started_at: timestamp,
                last_beat_at: timestamp,
                last_fetch_at: nullable(timestamp, { description: 'When it last took a job.' }),
              }),
            ),
          }),
        },
      },
    },
    async () => ({
      data: (await listWorkers(db)).map(worker => ({
        id: toWire('worker', worker.id),
        pid: worker.pid,
        host: worker.host,
        queues: worker.queues,
        concurrency: worker.concurrency,
        active: worker.active,
        providers: worker.providers,
        metrics_port: worker.metrics_port,
        started_at: worker.started_at.toISOString(),
        last_beat_at: worker.beat_at.toISOString(),
        last_fetch_at: worker.last_fetch_at?.toISOString() ?? null,
      })),
    }),
  )

  // The health routes need no key: concurrent callers share one check.
  const readWorkers = singleFlight(() => listWorkers(db))
  const checkSchema = singleFlight(() => schemaIsCurrent(db))
  const checkParts = sharedAnswer(async () => {
    const stateOrUnavailable = async (check: () => Promise<string>) => {
      try {
        return await withDeadline(check(), CHECK_MS)
      } catch {
        return 'unavailable'
      }
    }
    const [postgres, redis, cache, workers, targets] = await Promise.all([
      stateOrUnavailable(async () => ((await checkSchema()) ? 'ok' : 'schema is older than this version')),
      stateOrUnavailable(redisHealth.redis.state),
      redisHealth.cache && stateOrUnavailable(redisHealth.cache.state),
      withDeadline(readWorkers(), CHECK_MS).catch(() => null),
      withDeadline(providerStatus.read(), CHECK_MS).then(
        status => status.targets,
        () => [],
      ),
    ])
    return {
      postgres,
      redis,
      ...(cache && { cache }),
      workers: workers === null ? 'unavailable' : workers.length > 0 ? 'ok' : 'none',
      providers: providersPart(workers ?? [], targets),
    }
  })
  const readMetrics = sharedAnswer(async () => {
    await refresh(CHECK_MS)
    return metrics.registry.metrics()
  })

  const quiet = { logLevel: 'warn' as const }

  app.get(
    '/health/live',
    {
      ...quiet,
      schema: {
        tags: ['operations'],
        summary: 'Check that the process runs',
        response: { 200: Type.Object({ status: Type.Literal('ok') }) },
      },
    },
    async () => ({ status: 'ok' as const }),
  )

  app.get(
    '/health/ready',
    {
      ...quiet,
      schema: {
        tags: ['operations'],
        summary: 'Check that tasks are accepted',
        description:
          'The state of each part, at most a second old. 503 if tasks cannot be accepted. `degraded` (200): tasks are accepted but will wait; with `?strict=1` this is 503, too.',
        querystring: Type.Object(
          { strict: Type.Enum(['0', '1'], { default: '0' }) },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: readySchema, 503: readySchema },
      },
    },
    async (request, reply) => {
      const parts = { api: draining.aborted ? 'draining' : 'ok', ...(await checkParts()) }
      const accepts = parts.api === 'ok' && parts.postgres === 'ok'
      const healthy = Object.values(parts).every(part => part === 'ok')
      const status = healthy ? 'ok' : accepts ? 'degraded' : 'unavailable'
      return reply.code(!accepts || (!healthy && request.query.strict === '1') ? 503 : 200).send({ status, parts })
    },
  )

  app.get(
    '/metrics',
    {
      ...quiet,
      schema: {
        tags: ['operations'],
        summary: 'Read the metrics of this API process',
        description: 'For Prometheus. At most a second old.',
        response: textResponse('text/plain', 'Prometheus text format'),
      },
    },
    async (_, reply) => reply.type(metrics.registry.contentType).send(await readMetrics()),
  )
}

/** A provider is down if no worker's calls succeed, or if the breakers of all its models that are called are open. */
function providersPart(workers: { providers: Record<string, ProviderState> }[], targets: TargetState[]): string {
  const byName = statesByProvider(workers)
  if (workers.length > 0 && byName.size === 0) return 'none configured'
  const fails = ([name, states]: [string, ProviderState[]]) =>
    states.every(state => state !== 'ok') || stateOf(name, { targets, workers: byName }) === 'down'
  const down = [...byName].filter(fails).map(([name]) => name)
  return down.length === 0 ? 'ok' : `down: ${down.join(', ')}`
}

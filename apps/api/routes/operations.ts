import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { schemaIsCurrent } from '#shared/db/schema-version.ts'
import { listWorkers } from '#shared/db/workers.ts'
import { toWire } from '#shared/ids.ts'
import { withDeadline } from '#shared/lifecycle.ts'
import type { ApiDeps } from '../deps.ts'
import { refreshGauges } from '../gauges.ts'
import { textResponse } from '../plugins/openapi.ts'

const CHECK_MS = 2000

const readySchema = Type.Object({
  status: Type.Enum(['ok', 'degraded', 'unavailable']),
  parts: Type.Record(Type.String(), Type.String()),
})

/** For whoever runs it: workers, health, metrics. */
export const operations: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, redis, metrics, draining } = deps

  app.get(
    '/api/v1/workers',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['operations'],
        summary: 'The live workers',
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
                  description: 'As this worker’s own calls show.',
                }),
                metrics_port: Type.Union([Type.Integer(), Type.Null()]),
                started_at: Type.String({ format: 'date-time' }),
                last_beat_at: Type.String({ format: 'date-time' }),
                last_fetch_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()], {
                  description: 'When it last took a job.',
                }),
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

  const quiet = { logLevel: 'warn' as const }

  app.get(
    '/health/live',
    {
      ...quiet,
      schema: {
        tags: ['operations'],
        summary: 'Whether the process runs',
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
        summary: 'Whether tasks are accepted, by part',
        description:
          '503 only if tasks cannot be accepted. `degraded` (200): they are accepted but will wait. `?strict=1`: 503 for that too.',
        querystring: Type.Object(
          { strict: Type.Enum(['0', '1'], { default: '0' }) },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: readySchema, 503: readySchema },
      },
    },
    async (request, reply) => {
      const asked = async (check: () => Promise<string>) => {
        try {
          return await withDeadline(check(), CHECK_MS)
        } catch {
          return 'unavailable'
        }
      }
      const [postgres, queue, workers] = await Promise.all([
        asked(async () => ((await schemaIsCurrent(db)) ? 'ok' : 'schema is older than this version')),
        asked(async () => ((await redis.ping()) === 'PONG' ? 'ok' : 'unavailable')),
        withDeadline(listWorkers(db), CHECK_MS).catch(() => null),
      ])
      const parts = {
        api: draining.aborted ? 'draining' : 'ok',
        postgres,
        redis: queue,
        workers: workers === null ? 'unavailable' : workers.length > 0 ? 'ok' : 'none',
        providers: providersPart(workers ?? []),
      }
      const accepts = parts.api === 'ok' && parts.postgres === 'ok'
      const whole = Object.values(parts).every(part => part === 'ok')
      const status = whole ? 'ok' : accepts ? 'degraded' : 'unavailable'
      return reply.code(!accepts || (!whole && request.query.strict === '1') ? 503 : 200).send({ status, parts })
    },
  )

  app.get(
    '/metrics',
    {
      ...quiet,
      schema: {
        tags: ['operations'],
        summary: 'Metrics of this API process, for Prometheus',
        response: textResponse('text/plain', 'Prometheus text format'),
      },
    },
    async (_, reply) => {
      await refreshGauges(deps, CHECK_MS)
      return reply.type(metrics.registry.contentType).send(await metrics.registry.metrics())
    },
  )
}

/** A provider is down if no worker can get an answer from it. */
function providersPart(workers: { providers: Record<string, string> }[]): string {
  const names = [...new Set(workers.flatMap(worker => Object.keys(worker.providers)))]
  const down = names.filter(name => !workers.some(worker => worker.providers[name] === 'ok'))
  return down.length === 0 ? 'ok' : `down: ${down.join(', ')}`
}

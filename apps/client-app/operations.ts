import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { Registry } from 'prom-client'
import type { Database } from './database.ts'

export type OperationsDeps = { database: Database; registry: Registry; stopping: AbortSignal }

/** For whoever runs it: health and metrics. */
export const operations: FastifyPluginAsyncTypebox<OperationsDeps> = async (app, { database, registry, stopping }) => {
  app.get('/health/live', async () => ({ status: 'ok' }))

  // Sluice is no part of it: were it away for all, no other process could answer better.
  app.get('/health/ready', async (_, reply) => {
    const postgres = await database.ping().then(
      () => 'ok',
      () => 'away',
    )
    const ready = postgres === 'ok' && !stopping.aborted
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ok' : 'unavailable', parts: { postgres } })
  })

  app.get('/metrics', async (_, reply) => reply.type(registry.contentType).send(await registry.metrics()))
}

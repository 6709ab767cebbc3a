import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { CommentsDeps } from '../deps.ts'

/** For whoever runs it: health and metrics. */
export const operations: FastifyPluginAsyncTypebox<CommentsDeps> = async (app, { store, metrics, stopping }) => {
  app.get('/health/live', async () => ({ status: 'ok' }))

  // Without Sluice it does its work all the same: it holds what comes.
  app.get('/health/ready', async (_, reply) => {
    const postgres = await store.ping().then(
      () => 'ok',
      () => 'away',
    )
    const ready = postgres === 'ok' && !stopping.aborted
    return reply.code(ready ? 200 : 503).send({ status: ready ? 'ok' : 'unavailable', parts: { postgres } })
  })

  app.get('/metrics', async (_, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  )
}

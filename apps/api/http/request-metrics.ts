import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Metrics } from '#shared/metrics/metrics.ts'
import type { ResponseMemory } from './response-memory.ts'

/** Adds the request id to responses, measures their duration, and counts the memory of those being sent. */
export const requestMetrics = fp(
  async (app: FastifyInstance, { metrics, responseMemory }: { metrics: Metrics; responseMemory: ResponseMemory }) => {
    app.addHook('onRequest', (request, reply, done) => {
      reply.header('x-request-id', request.id)
      done()
    })
    app.addHook('onSend', (_request, reply, payload, done) => {
      if (typeof payload === 'string') responseMemory.track(reply.raw, payload.length)
      done(null, payload)
    })
    app.addHook('onResponse', (request, reply, done) => {
      metrics.httpSeconds.observe(
        { method: request.method, route: request.routeOptions.url ?? 'unknown', status: reply.statusCode },
        reply.elapsedTime / 1000,
      )
      done()
    })
  },
  { name: 'request-metrics' },
)

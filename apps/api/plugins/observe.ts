import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Metrics } from '#shared/metrics.ts'
import type { Outbox } from '../outbox.ts'

/** The request id on every response, one histogram over all of them, and what they hold while they are sent. */
export const observe = fp(
  async (app: FastifyInstance, { metrics, outbox }: { metrics: Metrics; outbox: Outbox }) => {
    app.addHook('onRequest', (request, reply, done) => {
      reply.header('x-request-id', request.id)
      done()
    })
    app.addHook('onSend', (_request, reply, payload, done) => {
      if (typeof payload === 'string') outbox.sending(reply.raw, payload.length)
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
  { name: 'observe' },
)

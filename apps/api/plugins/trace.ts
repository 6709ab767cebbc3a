import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readTraceparent, type Span } from '#shared/tracing/tracing.ts'
import type { ApiDeps } from '../deps.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** null: nobody traces it. */
    span: Span | null
  }
}

/** What is to be stored with that which this request makes: our own span, or its caller's. */
export const traceparentOf = ({ span, headers }: FastifyRequest): string | null =>
  span ? span.traceparent : readTraceparent(headers.traceparent)

/** A span for each request to a route that names a scope: probes and pages would only be noise. */
export const trace = fp(
  async (app: FastifyInstance, { tracing }: Pick<ApiDeps, 'tracing'>) => {
    app.decorateRequest('span', null)
    if (!tracing) return
    app.addHook('onRequest', (request, reply, done) => {
      const { url: route, config } = request.routeOptions
      if (config.scope === undefined) return done()
      const span = tracing.start(`${request.method} ${route}`, {
        kind: 'server',
        parent: readTraceparent(request.headers.traceparent),
        attributes: { 'http.request.method': request.method, 'http.route': route, 'sluice.request.id': request.id },
      })
      request.span = span
      // Its trace is known already if the caller named it.
      request.log = request.log.child({ trace_id: span.traceId, span_id: span.spanId })
      reply.log = request.log
      // Not onResponse, which does not come when the client went away.
      reply.raw.once('close', () => {
        const { statusCode, writableFinished } = reply.raw
        span.set({ 'http.response.status_code': statusCode })
        if (!writableFinished) span.fail('client_closed')
        else if (statusCode >= 500) span.fail(String(statusCode))
        span.end()
      })
      done()
    })
  },
  { name: 'trace' },
)

import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { readTraceparent, type Span } from '#shared/tracing/tracing.ts'
import type { ApiDeps } from '../deps.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** null: tracing is off, or the route is not traced. */
    span: Span | null
  }
}

/** The trace context to store with the resources that a request creates: its span, or the caller's. */
export const traceparentOf = ({ span, headers }: FastifyRequest): string | null =>
  span ? span.traceparent : readTraceparent(headers.traceparent)

/** Starts a span for each request to a route with a scope. Probes and pages are not traced. */
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
      // The logger has another trace id only if the caller sent none.
      request.log = request.log.child({ trace_id: span.traceId, span_id: span.spanId })
      reply.log = request.log
      // Not `onResponse`, which is not called if the client disconnects.
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

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The route accepts a file: its body may take long, as long as it makes progress. */
    upload?: true
  }
}

/** The maximum for any body, enforced by Node: 200 MB at 60 KB/s. */
export const MAX_BODY_MS = 3_600_000

export type BodyTimeouts = { bodyMs?: number; stalledMs?: number }

/** Destroys the connection of a client that sends its body too slowly. */
export const bodyTimeout = fp(
  async (app: FastifyInstance, { bodyMs = 120_000, stalledMs = 60_000 }: BodyTimeouts) => {
    app.addHook('onRequest', (request, reply, done) => {
      const { raw, headers } = request
      if (headers['transfer-encoding'] === undefined && !Number(headers['content-length'])) return done()
      if (request.routeOptions.config.upload) {
        raw.setTimeout(stalledMs, () => raw.destroy())
        // After the body, the time is spent by the server: ignore the timeout.
        reply.raw.on('timeout', () => {})
        return done()
      }
      const timer = setTimeout(() => raw.destroy(), bodyMs)
      raw.once('close', () => clearTimeout(timer))
      done()
    })
  },
  { name: 'body-timeout' },
)

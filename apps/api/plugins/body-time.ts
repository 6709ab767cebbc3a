import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** It takes a file: its body may be long under way, as long as more of it comes. */
    upload?: true
  }
}

/** Of any body at all, as Node bounds it: 200 MB come in at 60 KB/s. */
export const MOST_BODY_MS = 3_600_000

export type BodyTimes = { bodyMs?: number; stalledMs?: number }

/** Cuts the connection of a client that is too long about sending its body. */
export const bodyTime = fp(
  async (app: FastifyInstance, { bodyMs = 120_000, stalledMs = 60_000 }: BodyTimes) => {
    app.addHook('onRequest', (request, reply, done) => {
      const { raw, headers } = request
      if (headers['transfer-encoding'] === undefined && !Number(headers['content-length'])) return done()
      if (request.routeOptions.config.upload) {
        raw.setTimeout(stalledMs, () => raw.destroy())
        // Once all has come, what takes its time is ours.
        reply.raw.on('timeout', () => {})
        return done()
      }
      const timer = setTimeout(() => raw.destroy(), bodyMs)
      raw.once('close', () => clearTimeout(timer))
      done()
    })
  },
  { name: 'body-time' },
)

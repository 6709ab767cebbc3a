import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { SluiceError } from '#shared/errors.ts'
import { isCompatiblePath, servesAnthropic, surfaceOf } from './error-formats.ts'

/** Rejects clients of Anthropic's API on paths under /v1/ that only OpenAI's API has here, and names requests as each API does. */
export const surfaces = fp(
  async (app: FastifyInstance) => {
    app.addHook('onRequest', (request, reply, done) => {
      if (!isCompatiblePath(request.url) || surfaceOf(request) !== 'anthropic') return done()
      reply.header('request-id', request.id)
      if (servesAnthropic(request.url)) return done()
      done(
        new SluiceError(
          'not_found',
          'This server has only OpenAI’s API on this path, and the request has the header anthropic-version.',
        ),
      )
    })
  },
  { name: 'surfaces', dependencies: ['errors', 'request-metrics'] },
)

import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { SluiceError } from '#shared/errors.ts'
import { isCompatiblePath, servesAnthropic, surfaceOf } from './error-formats.ts'

/** The version of OpenAI's API that its servers name. */
const OPENAI_VERSION = '2020-10-01'

/** Rejects clients of Anthropic's API on paths under /v1/ that only OpenAI's API has here, and names requests as each API does. */
export const surfaces = fp(
  async (app: FastifyInstance) => {
    app.addHook('onRequest', (request, reply, done) => {
      if (!isCompatiblePath(request.url)) return done()
      if (surfaceOf(request) === 'openai') {
        reply.header('openai-version', OPENAI_VERSION)
        return done()
      }
      reply.header('request-id', request.id)
      if (servesAnthropic(request.url)) return done()
      done(
        new SluiceError(
          'not_found',
          'This server has only OpenAI’s API on this path, and the request has the header anthropic-version.',
        ),
      )
    })
    // The time until the answer begins, as OpenAI measures it. A stream writes its headers itself.
    app.addHook('onSend', (_, reply, payload, done) => {
      if (reply.hasHeader('openai-version')) reply.header('openai-processing-ms', Math.round(reply.elapsedTime))
      done(null, payload)
    })
  },
  { name: 'surfaces', dependencies: ['errors', 'request-metrics'] },
)

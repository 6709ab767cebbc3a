import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { SluiceError } from '#shared/errors.ts'
import { surfaceOf } from '../http/error-formats.ts'

/** Answers clients of Anthropic's API with 404 under /v1/, also on paths that OpenAI's API has. */
export const onlyOpenAi = fp(
  async (app: FastifyInstance) => {
    app.addHook('onRequest', (request, _, done) => {
      if (surfaceOf(request) !== 'anthropic') return done()
      done(
        new SluiceError(
          'not_found',
          'This server has OpenAI’s API only, and the request has the header anthropic-version.',
        ),
      )
    })
  },
  { name: 'only-openai', dependencies: ['errors', 'request-metrics'] },
)

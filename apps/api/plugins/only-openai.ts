import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { SluiceError } from '#shared/errors.ts'
import { surfaceOf } from '../surfaces.ts'

/** Anthropic's clients meet a clean 404 under /v1/, whatever OpenAI has at the same path. */
export const onlyOpenAi = fp(
  async (app: FastifyInstance) => {
    app.addHook('onRequest', (request, _, done) => {
      if (surfaceOf(request) !== 'anthropic') return done()
      done(new SluiceError('not_found', 'Only OpenAI’s API is served here, and the request has an anthropic-version.'))
    })
  },
  { name: 'only-openai', dependencies: ['errors', 'observe'] },
)

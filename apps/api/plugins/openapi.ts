import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { Type } from 'typebox'
import { ERRORS } from '#shared/errors.ts'
import { foreignErrors, isForeign } from '../surfaces.ts'

const problem = Type.Object({
  type: Type.String(),
  title: Type.String(),
  status: Type.Integer(),
  code: Type.Enum(Object.keys(ERRORS)),
  detail: Type.String(),
  retryable: Type.Boolean(),
  advice: Type.String(),
  request_id: Type.String(),
  context: Type.Record(Type.String(), Type.Unknown()),
})
const failure = {
  description: 'RFC 9457 problem document',
  content: { 'application/problem+json': { schema: problem } },
}

const foreignFailure = {
  description: 'As OpenAI’s API says it; as Anthropic’s does, if the request named an `anthropic-version`',
  content: { 'application/json': { schema: foreignErrors } },
}

/** A successful answer that is not JSON, as the document shows it. */
export const textResponse = (type: string, description: string) => ({
  200: { description, content: { [type]: { schema: Type.String() } } },
})

/** OpenAPI 3.1 from the routes' own schemas: `/openapi.json`, and `/docs` for people. */
export const openapi = fp(
  async (app: FastifyInstance, { version }: { version: string }) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: { title: 'Sluice', version, description: 'A job server between an application and its LLM providers.' },
        components: {
          securitySchemes: {
            bearer: { type: 'http', scheme: 'bearer' },
            header: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
          },
        },
      },
    })
    // Every route: the error answer, and for those that name a scope, the key.
    app.addHook('onRoute', route => {
      if (!route.schema || route.schema.hide) return
      const failed = isForeign(route.url) ? foreignFailure : failure
      route.schema.response = { ...(route.schema.response as object | undefined), '4xx': failed, '5xx': failed }
      if (route.config?.scope) route.schema.security = [{ bearer: [] }, { header: [] }]
    })
    // Made once: it takes long, is large, and anybody may ask for it.
    const made = new Map<string, Buffer>()
    const send = (reply: FastifyReply, format: 'json' | 'yaml') => {
      const text =
        made.get(format) ?? Buffer.from(format === 'yaml' ? app.swagger({ yaml: true }) : JSON.stringify(app.swagger()))
      made.set(format, text)
      return reply.type(format === 'yaml' ? 'application/x-yaml' : 'application/json; charset=utf-8').send(text)
    }
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      uiConfig: { docExpansion: 'list', persistAuthorization: true },
      uiHooks: {
        preHandler(request, reply, done) {
          const format = /^\/docs\/(json|yaml)$/.exec(request.routeOptions.url ?? '')?.[1] as
            | 'json'
            | 'yaml'
            | undefined
          if (format) send(reply, format)
          else done()
        },
      },
    })
    app.get('/openapi.json', { schema: { hide: true } }, (_, reply) => send(reply, 'json'))
  },
  { name: 'openapi', dependencies: ['auth'] },
)

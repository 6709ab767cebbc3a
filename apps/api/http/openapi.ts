import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, FastifyReply } from 'fastify'
import fp from 'fastify-plugin'
import { Type } from 'typebox'
import { ERRORS } from '#shared/errors.ts'
import { compatibleErrors, isCompatiblePath } from './error-formats.ts'

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

const compatibleFailure = {
  description:
    'An error in the format of OpenAI’s API, or of Anthropic’s if the request has the header `anthropic-version`',
  content: { 'application/json': { schema: compatibleErrors } },
}

/** A successful response that is not JSON. */
export const textResponse = (type: string, description: string) => ({
  200: { description, content: { [type]: { schema: Type.String() } } },
})

/** OpenAPI 3.1 from the schemas of the routes: `/openapi.json`, and `/docs` as a page. */
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
    // Adds the error responses to every route, and the API key to routes with a scope.
    app.addHook('onRoute', route => {
      if (!route.schema || route.schema.hide) return
      const failed = isCompatiblePath(route.url) ? compatibleFailure : failure
      route.schema.response = { ...(route.schema.response as object | undefined), '4xx': failed, '5xx': failed }
      if (route.config?.scope) route.schema.security = [{ bearer: [] }, { header: [] }]
    })
    // Rendered once: the document is large, slow to render and public.
    const rendered = new Map<string, Buffer>()
    const send = (reply: FastifyReply, format: 'json' | 'yaml') => {
      const text =
        rendered.get(format) ??
        Buffer.from(format === 'yaml' ? app.swagger({ yaml: true }) : JSON.stringify(app.swagger()))
      rendered.set(format, text)
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

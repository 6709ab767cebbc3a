import type { FastifyPluginAsync } from 'fastify'
import { Type } from 'typebox'
import { generate } from '#shared/jobs/generate.ts'
import { countTokens } from '#shared/requests/count-tokens.ts'
import type { ApiDeps } from '../deps.ts'
import { answerLive, readLive } from '../live/answer-live.ts'

/** The wire format reads the body and names the field that is wrong. This describes it for OpenAPI. */
const bodySchema = Type.Object(
  {},
  {
    additionalProperties: true,
    description:
      'A request of Anthropic’s messages. If the model is one of Anthropic’s, all fields are passed on unchanged; for other providers the request is translated.',
    examples: [
      {
        model: 'claude-haiku-5-5',
        max_tokens: 200,
        messages: [{ role: 'user', content: 'Three titles for a post on Redis' }],
      },
    ],
  },
)

const messageSchema = Type.Object(
  {
    id: Type.String(),
    type: Type.Literal('message'),
    role: Type.Literal('assistant'),
    model: Type.String(),
    content: Type.Array(Type.Object({}, { additionalProperties: true })),
  },
  { additionalProperties: true },
)

/** No request for a count is refused because of its output limit. */
const MAX_TOKENS = 1_000_000_000

/** Anthropic's `POST /v1/messages`: a task of the kind `generate` whose client waits for the answer. */
export const anthropicMessages: FastifyPluginAsync<ApiDeps> = async (app, deps) => {
  app.post(
    '/v1/messages',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['anthropic'],
        summary: 'Create a message (Anthropic)',
        description:
          'Compatible with Anthropic’s messages, for the models of all providers. With `stream: true` the answer is a stream of events.',
        body: bodySchema,
        response: {
          200: {
            description: 'The message, or with `stream: true` its events',
            content: { 'application/json': { schema: messageSchema }, 'text/event-stream': { schema: Type.String() } },
          },
        },
      },
    },
    (request, reply) => answerLive(deps, request, reply, { wire: 'anthropic-messages' }),
  )

  app.post<{ Body: Record<string, unknown> }>(
    '/v1/messages/count_tokens',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['anthropic'],
        summary: 'Count the tokens of a message (Anthropic)',
        description: 'An estimate with the encoding o200k_base, for the models of all providers. Calls no provider.',
        body: bodySchema,
        response: { 200: Type.Object({ input_tokens: Type.Integer() }) },
      },
    },
    async ({ body }) => {
      // The only required field that this request lacks.
      const { request, model } = readLive({ wire: 'anthropic-messages', body: { ...body, max_tokens: MAX_TOKENS } })
      deps.preflight.checkModel(generate, { model }, '')
      return { input_tokens: countTokens(request) }
    },
  )
}

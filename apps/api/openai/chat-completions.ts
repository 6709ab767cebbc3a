import type { FastifyPluginAsync } from 'fastify'
import { Type } from 'typebox'
import type { ApiDeps } from '../deps.ts'
import { answerLive } from '../live/answer-live.ts'

/** The wire format reads the body and names the parameter that is wrong. This describes it for OpenAPI. */
const bodySchema = Type.Object(
  {},
  {
    additionalProperties: true,
    description:
      'A request of OpenAI’s chat completions. If OpenAI’s format is also the provider’s, all fields are passed on unchanged; for other providers the request is translated.',
    examples: [
      {
        model: 'claude-haiku-5-5',
        messages: [{ role: 'user', content: 'Three titles for a post on Redis' }],
        max_completion_tokens: 200,
      },
    ],
  },
)

export const completionSchema = Type.Object(
  {
    id: Type.String(),
    object: Type.Literal('chat.completion'),
    created: Type.Integer({ description: 'Unix seconds.' }),
    model: Type.String(),
    choices: Type.Array(Type.Object({}, { additionalProperties: true })),
  },
  { additionalProperties: true },
)

/** OpenAI's `POST /v1/chat/completions`: a task of the kind `generate` whose client waits for the answer. */
export const openAiChatCompletions: FastifyPluginAsync<ApiDeps> = async (app, deps) => {
  app.post<{ Body: Record<string, unknown> }>(
    '/v1/chat/completions',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Create a chat completion (OpenAI)',
        description:
          'Compatible with OpenAI’s chat completions, for the models of all providers. With `stream: true` the answer is a stream of chunks.',
        body: bodySchema,
        response: {
          200: {
            description: 'The completion, or with `stream: true` its chunks',
            content: {
              'application/json': { schema: completionSchema },
              'text/event-stream': { schema: Type.String() },
            },
          },
        },
      },
    },
    (request, reply) =>
      answerLive(deps, request, reply, {
        wire: 'openai-chat',
        ...(request.body.store === true && { stored: true }),
        metadata: (request.body.metadata ?? null) as Record<string, unknown> | null,
      }),
  )
}

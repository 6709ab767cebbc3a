import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { isTerminal } from '#shared/db/tasks/row.ts'
import { deleteStoredTask } from '#shared/db/tasks/stored.ts'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import { generate } from '#shared/jobs/generate.ts'
import { countTokens } from '#shared/requests/count-tokens.ts'
import type { ApiDeps } from '../deps.ts'
import { answerLive, readLive } from '../live/answer-live.ts'
import { runInBackground } from '../live/run-live.ts'
import { listJson, listSchema } from '../openai/list.ts'
import { conversationBefore, listedInput } from './history.ts'
import { type OwnResponse, ownResponse, responseJson } from './own-response.ts'
import { streamResponse } from './stream-response.ts'

/** When a client that polls should ask again. */
const POLL_AFTER_MS = 1000

/** The wire format reads the body and names the parameter that is wrong. This describes it for OpenAPI. */
const bodySchema = Type.Object(
  {},
  {
    additionalProperties: true,
    description:
      'A request of OpenAI’s responses. Function tools work with every provider; hosted tools are refused unless the provider has them.',
    examples: [{ model: 'claude-haiku-5-5', input: 'Three titles for a post on Redis' }],
  },
)

const responseSchema = Type.Object(
  { id: Type.String(), object: Type.Literal('response'), status: Type.String(), output: Type.Array(Type.Unknown()) },
  { additionalProperties: true },
)
const responseOrEvents = {
  200: {
    description: 'The response, or its events if they were requested',
    content: { 'application/json': { schema: responseSchema }, 'text/event-stream': { schema: Type.String() } },
  },
}
const params = Type.Object({ id: Type.String({ description: 'Response id, `resp_…`' }) })
type OfResponse = { Params: Static<typeof params> }

const include = {
  include: Type.Optional(Type.Unknown({ description: 'Has no effect.' })),
  'include[]': Type.Optional(Type.Unknown({ description: 'Has no effect.' })),
}
const readQuery = Type.Object(
  {
    stream: Type.Optional(Type.Boolean({ description: 'Send the events of the response.' })),
    starting_after: Type.Optional(
      Type.Integer({ minimum: 0, description: 'With `stream`: only events after this sequence number.' }),
    ),
    include_obfuscation: Type.Optional(Type.Boolean({ description: 'Has no effect: events are not obfuscated.' })),
    ...include,
  },
  { additionalProperties: false },
)
const itemsQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
    order: Type.Enum(['asc', 'desc'], { default: 'desc' }),
    after: Type.Optional(Type.String({ maxLength: 100, description: 'Items after the one with this id.' })),
    ...include,
  },
  { additionalProperties: false, required: [] },
)

/** OpenAI's `/v1/responses`. A response is a task of the kind `generate`. */
export const openAiResponses: FastifyPluginAsync<ApiDeps> = async (app, deps) => {
  const find = (request: FastifyRequest<OfResponse>) => ownResponse(deps, request, request.params.id, 'response_id')

  app.post<{ Body: Record<string, unknown> }>(
    '/v1/responses',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Create a response (OpenAI)',
        description:
          'Compatible with OpenAI’s responses, for the models of all providers. `stream: true` returns events; `background: true` returns at once.',
        body: bodySchema,
        response: responseOrEvents,
      },
    },
    async (request, reply) => {
      const { body } = request
      const before = await conversationBefore(deps, request)
      const options = {
        wire: 'openai-responses' as const,
        before,
        stored: body.store !== false,
        metadata: (body.metadata ?? null) as Record<string, unknown> | null,
      }
      if (body.background !== true) return answerLive(deps, request, reply, options)
      const original = { wire: options.wire, body, ...(before && { before }) }
      const parsed = readLive(original)
      const id = await runInBackground(deps, request, { ...options, original, parsed })
      const response = await ownResponse(deps, request, toWire('resp', id), 'response_id')
      return parsed.stream ? streamResponse(deps, request, reply, response, null) : sendResponse(reply, response)
    },
  )

  app.post<{ Body: Record<string, unknown> }>(
    '/v1/responses/input_tokens',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'Count the input tokens of a response (OpenAI)',
        description: 'An estimate with the encoding o200k_base, for the models of all providers. Calls no provider.',
        body: bodySchema,
        response: { 200: Type.Object({ object: Type.Literal('response.input_tokens'), input_tokens: Type.Integer() }) },
      },
    },
    async request => {
      const { body } = request
      const before = await conversationBefore(deps, request)
      const parsed = readLive({ wire: 'openai-responses', body, ...(before && { before }) })
      deps.preflight.checkModel(generate, { model: parsed.model }, '')
      return { object: 'response.input_tokens', input_tokens: countTokens(parsed.request) }
    },
  )

  app.get<OfResponse & { Querystring: Static<typeof readQuery> }>(
    '/v1/responses/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'Get a response (OpenAI)',
        description:
          'With `stream=true`, the events of the response: live while it runs, and the same ones at any later time.',
        params,
        querystring: readQuery,
        response: responseOrEvents,
      },
    },
    async (request, reply) => {
      const response = await find(request)
      const { stream, starting_after: after = null } = request.query
      return stream ? streamResponse(deps, request, reply, response, after) : sendResponse(reply, response)
    },
  )

  app.post<OfResponse>(
    '/v1/responses/:id/cancel',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Cancel a background response (OpenAI)',
        description: 'A response that has ended stays as it is.',
        params,
        response: { 200: responseSchema },
      },
    },
    async (request, reply) => {
      const response = await find(request)
      if (response.request.body.background !== true)
        throw new SluiceError('invalid_request', 'Only responses with `background: true` can be cancelled.', {
          context: { param: 'response_id', code: 'invalid_value' },
        })
      await deps.finishTask({
        id: response.task.id,
        status: 'cancelled',
        from: 'live',
        epoch: null,
        workerId: null,
        error: { code: 'cancelled', message: 'Cancelled by the client.' },
        settlement: null,
      })
      return sendResponse(reply, await find(request))
    },
  )

  app.delete<OfResponse>(
    '/v1/responses/:id',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Delete a response (OpenAI)',
        description: 'It can no longer be read or continued here. Its task stays in the ledger.',
        params,
        response: {
          200: Type.Object({ id: Type.String(), object: Type.Literal('response'), deleted: Type.Boolean() }),
        },
      },
    },
    async request => {
      const { task } = await find(request)
      await deleteStoredTask(deps.db, task.id)
      return { id: request.params.id, object: 'response', deleted: true }
    },
  )

  app.get<OfResponse & { Querystring: Static<typeof itemsQuery> }>(
    '/v1/responses/:id/input_items',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'List the input of a response (OpenAI)',
        description: 'Includes the conversation that the response continues.',
        params,
        querystring: itemsQuery,
        response: { 200: listSchema(Type.Object({ id: Type.String() }, { additionalProperties: true })) },
      },
    },
    async request => {
      const { limit, order, after } = request.query
      const all = listedInput(await find(request))
      if (order === 'desc') all.reverse()
      const start = after === undefined ? 0 : all.findIndex(one => one.id === after) + 1
      if (after !== undefined && start === 0)
        throw new SluiceError('invalid_request', `No item with id '${after}' found.`, {
          context: { param: 'after', code: 'invalid_value' },
        })
      return listJson(all.slice(start, start + limit), all.length > start + limit)
    },
  )
}

function sendResponse(reply: FastifyReply, response: OwnResponse) {
  if (!isTerminal(response.view.status)) reply.header('openai-poll-after-ms', POLL_AFTER_MS)
  return reply.send(responseJson(response))
}

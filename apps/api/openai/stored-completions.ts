import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { deleteStoredTask, listStoredTasks, updateStoredTask } from '#shared/db/tasks/stored.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire } from '#shared/ids.ts'
import { renderAnswer } from '#shared/requests/openai-chat/render-answer.ts'
import { type Fields, isFields } from '#shared/requests/openai-fields.ts'
import type { ApiDeps } from '../deps.ts'
import { type OwnStored, ownStored, withView } from '../live/own-stored.ts'
import { answerOfView } from '../live/stored-answer.ts'
import { completionSchema } from './chat-completions.ts'
import { listJson, listSchema } from './list.ts'

const WIRE = 'openai-chat'

const params = Type.Object({
  id: Type.String({
    description: 'Completion id, `chatcmpl-…`',
    examples: ['chatcmpl-019a9f0c5d7e7cc2a1b2c3d4e5f60720'],
  }),
})
type OfCompletion = { Params: Static<typeof params> }

const page = {
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
  order: Type.Enum(['asc', 'desc'], { default: 'asc' }),
  after: Type.Optional(Type.String({ maxLength: 100, description: 'Entries after the one with this id.' })),
}
const listQuery = Type.Object(
  {
    ...page,
    model: Type.Optional(Type.String({ maxLength: 200, description: 'Only answers of this model.' })),
  },
  // `metadata[key]=value`
  { additionalProperties: Type.String({ maxLength: 512 }), required: [] },
)
const messagesQuery = Type.Object(page, { additionalProperties: false, required: [] })

const pairs = Type.Record(Type.String(), Type.String({ maxLength: 512 }), {
  maxProperties: 16,
  propertyNames: { maxLength: 64 },
})
const updateBody = Type.Object(
  { metadata: Type.Union([pairs, Type.Null()], { description: 'Replaces the metadata.' }) },
  { additionalProperties: false, examples: [{ metadata: { topic: 'redis' } }] },
)

/** OpenAI's stored chat completions: those with `store: true`. */
export const openAiStoredCompletions: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const find = async (request: FastifyRequest<OfCompletion>): Promise<OwnStored> => {
    const { id } = request.params
    const found = await ownStored(deps, request, fromWire('chatcmpl', id), WIRE)
    if (found?.view.status === 'succeeded') return found
    throw new SluiceError('completion_not_found', `Completion with id '${id.slice(0, 100)}' not found.`, {
      context: { param: 'completion_id' },
    })
  }
  const common = { tags: ['openai'], params }

  app.get(
    '/v1/chat/completions',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'List stored chat completions (OpenAI)',
        description: 'Those of this key with `store: true`, oldest first. Filter with `metadata[key]=value`.',
        querystring: listQuery,
        response: { 200: listSchema(completionSchema) },
      },
    },
    async request => {
      const { limit, order, after, model = null, ...rest } = request.query as Static<typeof listQuery>
      const rows = await listStoredTasks(deps.db, {
        apiKeyId: request.apiKey.id,
        wire: WIRE,
        model,
        metadata: metadataFilter(rest),
        after: after === undefined ? null : cursorOf(after),
        order,
        limit: limit + 1,
      })
      const found = await Promise.all(rows.slice(0, limit).map(row => withView(deps, row, WIRE)))
      return listJson(found.filter(one => one !== null).map(completionJson), rows.length > limit)
    },
  )

  app.get(
    '/v1/chat/completions/:id',
    {
      config: { scope: 'read' },
      schema: { ...common, summary: 'Get a stored chat completion (OpenAI)', response: { 200: completionSchema } },
    },
    async request => completionJson(await find(request)),
  )

  app.post(
    '/v1/chat/completions/:id',
    {
      config: { scope: 'submit' },
      schema: {
        ...common,
        summary: 'Update the metadata of a stored chat completion (OpenAI)',
        body: updateBody,
        response: { 200: completionSchema },
      },
    },
    async request => {
      const { task } = await find(request)
      await updateStoredTask(deps.db, task.id, request.body.metadata)
      return completionJson(await find(request))
    },
  )

  app.delete(
    '/v1/chat/completions/:id',
    {
      config: { scope: 'submit' },
      schema: {
        ...common,
        summary: 'Delete a stored chat completion (OpenAI)',
        description: 'It can no longer be read here. Its task stays in the ledger.',
        response: {
          200: Type.Object({
            id: Type.String(),
            object: Type.Literal('chat.completion.deleted'),
            deleted: Type.Boolean(),
          }),
        },
      },
    },
    async request => {
      const { task } = await find(request)
      await deleteStoredTask(deps.db, task.id)
      return { id: request.params.id, object: 'chat.completion.deleted' as const, deleted: true }
    },
  )

  app.get(
    '/v1/chat/completions/:id/messages',
    {
      config: { scope: 'read' },
      schema: {
        ...common,
        summary: 'List the messages of a stored chat completion (OpenAI)',
        querystring: messagesQuery,
        response: { 200: listSchema(Type.Object({ id: Type.String() }, { additionalProperties: true })) },
      },
    },
    async request => {
      const { limit, order, after } = request.query
      const all = messagesJson(await find(request))
      if (order === 'desc') all.reverse()
      const start = after === undefined ? 0 : all.findIndex(one => one.id === after) + 1
      if (after !== undefined && start === 0) throw unknownEntry(after)
      return listJson(all.slice(start, start + limit), all.length > start + limit)
    },
  )
}

const unknownEntry = (after: string) =>
  new SluiceError(
    'invalid_request',
    `Query parameter \`after\` names no entry in this list: '${after.slice(0, 100)}'.`,
    {
      context: { param: 'after', code: 'invalid_value' },
    },
  )

function cursorOf(after: string): string {
  const id = fromWire('chatcmpl', after)
  if (id === null) throw unknownEntry(after)
  return id
}

/** @throws SluiceError invalid_request: another parameter than `metadata[key]` */
function metadataFilter(query: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(query).map(([name, value]) => {
      const key = /^metadata\[(.{1,64})\]$/.exec(name)?.[1]
      if (key !== undefined) return [key, String(value)]
      throw new SluiceError(
        'invalid_request',
        `Unknown query parameter \`${name.slice(0, 100)}\`; known here: limit, order, after, model, metadata[key].`,
        { context: { param: name.slice(0, 100), code: 'unknown_parameter' } },
      )
    }),
  )
}

function completionJson({ view, task, context }: OwnStored) {
  const completion = renderAnswer(answerOfView(view), context) as Static<typeof completionSchema>
  return { ...completion, metadata: task.metadata ?? {} }
}

/** The messages of the request. Content that is not text is in `content_parts`. */
function messagesJson({ request, context }: OwnStored): (Fields & { id: string })[] {
  const { messages } = request.body
  return (Array.isArray(messages) ? messages.filter(isFields) : []).map(({ content, ...message }, n) => ({
    id: `chatcmpl-${context.id}-${n}`,
    refusal: null,
    ...message,
    content: typeof content === 'string' ? content : null,
    content_parts: Array.isArray(content) ? content : null,
  }))
}

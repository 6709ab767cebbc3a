import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { DEFAULT_TOP_K, LANGUAGES, MOST_TOP_K, NAME, passageId } from '#shared/collections/collection.ts'
import {
  type CollectionRow,
  deleteCollection,
  listCollections,
  putCollection,
  readCollection,
} from '#shared/db/collections.ts'
import { SluiceError } from '#shared/errors.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'

export const nameSchema = Type.String({
  pattern: NAME,
  description: 'Small letters, digits, `-` and `_`.',
  examples: ['handbook'],
})
const params = Type.Object({ name: nameSchema })

const moment = Type.String({ format: 'date-time' })
const language = Type.Enum(LANGUAGES)

const collectionSchema = Type.Object({
  name: Type.String(),
  language: Type.String(),
  documents: Type.Integer({ description: 'How many there are.' }),
  passages: Type.Integer({ description: 'How many they were cut into.' }),
  created_at: moment,
  updated_at: moment,
})

const collectionJson = (row: CollectionRow) => ({
  name: row.name,
  language: row.language,
  documents: row.documents,
  passages: row.passages,
  created_at: row.created_at.toISOString(),
  updated_at: row.updated_at.toISOString(),
})

/** `/api/v1/collections`: texts of a key's own, which `ask` answers from. */
export const collections: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, search, writeCollection: write }) => {
  app.put(
    '/api/v1/collections/:name',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['collections'],
        summary: 'Begin a collection of documents',
        description:
          'For this key alone. Tasks of the kind `ask` that name it answer from its documents. One that is there stays as it is; its language can be changed while it is empty, 409 afterwards.',
        params,
        body: Type.Object(
          {
            language: {
              ...language,
              default: 'english',
              description:
                'Of its documents and questions: words are compared by their stem. `simple`: as they are. Languages that do not set words apart, such as Chinese, are found by whole phrases only.',
            },
          },
          { additionalProperties: false, examples: [{ language: 'english' }], required: [], default: {} },
        ),
        response: { 200: collectionSchema },
      },
    },
    async ({ params: { name }, body, apiKey }) => {
      const outcome = await write({ apiKeyId: apiKey.id, name }, () =>
        putCollection(db, { apiKeyId: apiKey.id, name }, body.language),
      )
      if (outcome.kind === 'put') return collectionJson(outcome.collection)
      throw new SluiceError('collection_not_empty', undefined, {
        context: { collection: name, language: outcome.language },
      })
    },
  )

  app.get(
    '/api/v1/collections',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['collections'],
        summary: 'List collections',
        querystring: Type.Object(
          {
            after: Type.Optional({ ...nameSchema, description: '`next` of the page before' }),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(collectionSchema),
            has_more: Type.Boolean(),
            next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
          }),
        },
      },
    },
    async ({ query: { after, limit }, apiKey }) => {
      const rows = await listCollections(db, apiKey.id, { after: after ?? null, limit: limit + 1 })
      const page = rows.slice(0, limit)
      const hasMore = rows.length > limit
      return { data: page.map(collectionJson), has_more: hasMore, next: hasMore ? page.at(-1)!.name : null }
    },
  )

  app.get(
    '/api/v1/collections/:name',
    {
      config: { scope: 'read' },
      schema: { tags: ['collections'], summary: 'Read a collection', params, response: { 200: collectionSchema } },
    },
    async ({ params: { name }, apiKey }) => {
      const row = await readCollection(db, { apiKeyId: apiKey.id, name })
      if (!row) throw noCollection(name)
      return collectionJson(row)
    },
  )

  app.delete(
    '/api/v1/collections/:name',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['collections'],
        summary: 'Delete a collection with its documents',
        description: 'Tasks that were accepted keep what was found for them.',
        params,
        response: { 200: collectionSchema },
      },
    },
    async ({ params: { name }, apiKey }) => {
      const row = await write({ apiKeyId: apiKey.id, name }, () => deleteCollection(db, { apiKeyId: apiKey.id, name }))
      if (!row) throw noCollection(name)
      return collectionJson(row)
    },
  )

  app.get(
    '/api/v1/collections/:name/search',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['collections'],
        summary: 'Look at what a question would find',
        description: 'The passages that a task of the kind `ask` would get for its contexts now, best first.',
        params,
        querystring: Type.Object(
          {
            q: Type.String({ minLength: 1, maxLength: 10_000, pattern: '\\S', description: 'The question.' }),
            top_k: Type.Integer({ minimum: 1, maximum: MOST_TOP_K, default: DEFAULT_TOP_K }),
          },
          { additionalProperties: false, required: ['q'] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(
              Type.Object({
                id: Type.String({ description: 'What a citation names: `<document>#<passage>`.' }),
                document: Type.String(),
                passage: Type.Integer({ minimum: 1 }),
                text: Type.String(),
                rank: Type.Number({ description: 'To compare those of one search by.' }),
              }),
            ),
          }),
        },
      },
    },
    async ({ params: { name }, query: { q, top_k }, apiKey }) => {
      if (findUnstorable(q) !== null)
        throw new SluiceError('invalid_text', undefined, { context: { field: '/q', in: 'querystring' } })
      const found = await search({ apiKeyId: apiKey.id, name }, { question: q, limit: top_k })
      if (!found) throw noCollection(name)
      return {
        data: found.map(({ document, n, text, rank }) => {
          return { id: passageId(document, n), document, passage: n, text, rank }
        }),
      }
    },
  )
}

export const noCollection = (name: string) =>
  new SluiceError('collection_not_found', undefined, { context: { collection: name } })

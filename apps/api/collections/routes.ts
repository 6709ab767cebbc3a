import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { COLLECTION_NAME, DEFAULT_TOP_K, LANGUAGES, MAX_TOP_K, passageId } from '#shared/collections/collection.ts'
import {
  type CollectionRow,
  deleteCollection,
  listCollections,
  putCollection,
  readCollection,
} from '#shared/db/collections/collections.ts'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'
import { pageJson, pageQuery, pageSchema } from '../http/pagination.ts'
import { timestamp } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'

export const nameSchema = Type.String({
  pattern: COLLECTION_NAME,
  description: 'Lowercase letters, digits, `-` and `_`.',
  examples: ['handbook'],
})
const params = Type.Object({ name: nameSchema })

const language = Type.Enum(LANGUAGES)

const collectionSchema = Type.Object({
  name: Type.String(),
  language: Type.String(),
  documents: Type.Integer({ description: 'The number of documents.' }),
  passages: Type.Integer({ description: 'The number of passages that the documents are split into.' }),
  created_at: timestamp,
  updated_at: timestamp,
})

const collectionJson = (row: CollectionRow) => ({
  name: row.name,
  language: row.language,
  documents: row.documents,
  passages: row.passages,
  created_at: row.created_at.toISOString(),
  updated_at: row.updated_at.toISOString(),
})

/** `/api/v1/collections`: documents of a key, which tasks of the kind `ask` answer from. */
export const collections: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, search, writeCollection: write }) => {
  app.put(
    '/api/v1/collections/:name',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['collections'],
        summary: 'Create a collection of documents',
        description:
          'A collection belongs to one key. Tasks of the kind `ask` that name it answer from its documents. An existing collection is not changed, except that the language of an empty one can be replaced: 409 if it has documents.',
        params,
        body: Type.Object(
          {
            language: {
              ...language,
              default: 'english',
              description:
                'The language of the documents and questions, which decides how words are reduced to their stems. `simple`: words are compared unchanged. Languages that do not separate words, such as Chinese, are only found by whole phrases.',
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
        querystring: Type.Object(pageQuery({ cursor: nameSchema }), { additionalProperties: false, required: [] }),
        response: { 200: pageSchema(collectionSchema) },
      },
    },
    async ({ query: { after, limit }, apiKey }) => {
      const rows = await listCollections(db, apiKey.id, { after: after ?? null, limit: limit + 1 })
      return pageJson(rows, limit, { json: collectionJson, cursor: row => row.name })
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
      if (!row) throw collectionNotFound(name)
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
        description: 'Tasks that were accepted before keep the passages that were found for them.',
        params,
        response: { 200: collectionSchema },
      },
    },
    async ({ params: { name }, apiKey }) => {
      const row = await write({ apiKeyId: apiKey.id, name }, () => deleteCollection(db, { apiKeyId: apiKey.id, name }))
      if (!row) throw collectionNotFound(name)
      return collectionJson(row)
    },
  )

  app.get(
    '/api/v1/collections/:name/search',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['collections'],
        summary: 'Search a collection',
        description: 'Returns the passages that a task of the kind `ask` would get as contexts now, best first.',
        params,
        querystring: Type.Object(
          {
            q: Type.String({ minLength: 1, maxLength: 10_000, pattern: '\\S', description: 'The question.' }),
            top_k: Type.Integer({ minimum: 1, maximum: MAX_TOP_K, default: DEFAULT_TOP_K }),
          },
          { additionalProperties: false, required: ['q'] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(
              Type.Object({
                id: Type.String({ description: 'The id that citations use: `<document>#<passage>`.' }),
                document: Type.String(),
                passage: Type.Integer({ minimum: 1 }),
                text: Type.String(),
                rank: Type.Number({ description: 'Relevance. Comparable within one search only.' }),
              }),
            ),
          }),
        },
      },
    },
    async ({ params: { name }, query: { q, top_k }, apiKey }) => {
      assertStorable(q, '/q', { in: 'querystring' })
      const found = await search({ apiKeyId: apiKey.id, name }, { question: q, limit: top_k })
      if (!found) throw collectionNotFound(name)
      return {
        data: found.map(({ document, n, text, rank }) => {
          return { id: passageId(document, n), document, passage: n, text, rank }
        }),
      }
    },
  )
}

export const collectionNotFound = (name: string) =>
  new SluiceError('collection_not_found', `This key has no collection "${name}".`, {
    context: { field: '/name', collection: name },
  })

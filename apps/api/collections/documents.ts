import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { DOCUMENT_ID, MAX_PASSAGES, MAX_TEXT } from '#shared/collections/collection.ts'
import { cutPassages } from '#shared/collections/passages.ts'
import { type Owned, readCollection } from '#shared/db/collections/collections.ts'
import {
  type DocumentRow,
  deleteDocument,
  listDocuments,
  type NewDocument,
  putDocuments,
  readDocument,
} from '#shared/db/collections/documents.ts'
import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidField } from '../http/invalid-field.ts'
import { pageJson, pageQuery, pageSchema } from '../http/pagination.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import { assertDepth, assertSize, assertStorable, MAX_METADATA_BYTES } from '../http/stored-values.ts'
import { collectionNotFound, nameSchema } from './routes.ts'

const MAX_AT_ONCE = 500

const idSchema = Type.String({
  pattern: DOCUMENT_ID,
  description: 'Your own id: letters, digits, `.`, `_`, `:` and `-`.',
  examples: ['returns'],
})
const params = Type.Object({ name: nameSchema })
const documentParams = Type.Object({ name: nameSchema, id: idSchema })

const content = {
  text: Type.String({ minLength: 1, maxLength: MAX_TEXT, pattern: '\\S' }),
  metadata: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), {
      description: `Your own data, returned unchanged and not searched. At most ${MAX_METADATA_BYTES} bytes.`,
    }),
  ),
}
const example = { text: 'Anything can be returned within 30 days of delivery. Worn shoes are the exception.' }

const fields = {
  id: Type.String(),
  metadata: nullable(Type.Record(Type.String(), Type.Unknown())),
  characters: Type.Integer(),
  passages: Type.Integer({ description: 'The number of passages that the text is split into.' }),
  created_at: timestamp,
  updated_at: timestamp,
}
const entrySchema = Type.Object(fields)
const documentSchema = Type.Object({ ...fields, text: Type.String() })

const entryJson = (row: DocumentRow) => ({
  id: row.id,
  metadata: row.metadata,
  characters: row.characters,
  passages: row.passages,
  created_at: row.created_at.toISOString(),
  updated_at: row.updated_at.toISOString(),
})

/** `/api/v1/collections/{name}/documents` */
export const documents: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db } = deps
  app.post(
    '/api/v1/collections/:name/documents',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['collections'],
        summary: 'Write many documents',
        description: `Writes up to ${MAX_AT_ONCE} documents, or none of them if one fails. A document replaces the one with the same id.`,
        params,
        body: Type.Array(Type.Object({ id: idSchema, ...content }, { additionalProperties: false }), {
          minItems: 1,
          maxItems: MAX_AT_ONCE,
          examples: [[{ id: 'returns', ...example }]],
        }),
        response: {
          200: Type.Object({ data: Type.Array(entrySchema, { description: 'The documents without their texts.' }) }),
        },
      },
    },
    async ({ params: { name }, body, apiKey }) => {
      const ids = new Set<string>()
      for (const [n, one] of body.entries()) {
        assertContent(one, `/${n}`)
        if (ids.has(one.id)) throw invalidField(`/${n}/id`, 'repeats the id of an earlier document')
        ids.add(one.id)
      }
      return { data: (await put(deps, { apiKeyId: apiKey.id, name }, body)).map(entryJson) }
    },
  )

  app.get(
    '/api/v1/collections/:name/documents',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['collections'],
        summary: 'List the documents of a collection',
        description: 'Lists documents in the order of their ids, without their texts.',
        params,
        querystring: Type.Object(pageQuery({ cursor: idSchema }), { additionalProperties: false, required: [] }),
        response: { 200: pageSchema(entrySchema) },
      },
    },
    async ({ params: { name }, query: { after, limit }, apiKey }) => {
      const rows = await listDocuments(db, { apiKeyId: apiKey.id, name }, { after: after ?? null, limit: limit + 1 })
      if (!rows) throw collectionNotFound(name)
      return pageJson(rows, limit, { json: entryJson, cursor: row => row.id })
    },
  )

  app.put(
    '/api/v1/collections/:name/documents/:id',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['collections'],
        summary: 'Write a document',
        description:
          'Replaces the document with this id. The text is split into passages that overlap slightly, at paragraphs where possible.',
        params: documentParams,
        body: Type.Object(content, { additionalProperties: false, examples: [example] }),
        response: { 200: entrySchema },
      },
    },
    async ({ params: { name, id }, body, apiKey }) => {
      assertContent(body, '')
      const [row] = await put(deps, { apiKeyId: apiKey.id, name }, [{ id, ...body }])
      return entryJson(row!)
    },
  )

  app.get(
    '/api/v1/collections/:name/documents/:id',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['collections'],
        summary: 'Read a document',
        params: documentParams,
        response: { 200: documentSchema },
      },
    },
    async ({ params: { name, id }, apiKey }) => {
      const collection = { apiKeyId: apiKey.id, name }
      const row = await readDocument(db, collection, id)
      if (!row) throw await documentNotFound(db, collection, id)
      return { ...entryJson(row), text: row.text! }
    },
  )

  app.delete(
    '/api/v1/collections/:name/documents/:id',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['collections'],
        summary: 'Delete a document',
        description: 'Tasks that were accepted before keep the passages that were found for them.',
        params: documentParams,
        response: { 200: entrySchema },
      },
    },
    async ({ params: { name, id }, apiKey }) => {
      const collection = { apiKeyId: apiKey.id, name }
      const row = await deps.writeCollection(collection, () => deleteDocument(db, collection, id))
      if (!row) throw await documentNotFound(db, collection, id)
      return entryJson(row)
    },
  )
}

type DocumentInput = Omit<NewDocument, 'metadata' | 'passages'> & { metadata?: Record<string, unknown> }

async function put(
  { db, writeCollection }: Pick<ApiDeps, 'db' | 'writeCollection'>,
  collection: Owned,
  inputs: DocumentInput[],
): Promise<DocumentRow[]> {
  const documents = inputs.map(one => ({
    ...one,
    metadata: one.metadata ?? null,
    passages: cutPassages(one.text),
  }))
  const outcome = await writeCollection(collection, () => putDocuments(db, collection, documents, MAX_PASSAGES))
  switch (outcome.kind) {
    case 'put':
      return outcome.documents
    case 'no_collection':
      throw collectionNotFound(collection.name)
    case 'full':
      throw new SluiceError('collection_full', `A collection holds at most ${MAX_PASSAGES} passages.`, {
        context: { collection: collection.name, passages: outcome.passages, limit: MAX_PASSAGES },
      })
  }
}

/** Checks what the schema cannot express. @param at JSON pointer of the document in the body */
function assertContent({ text, metadata }: Pick<DocumentInput, 'text' | 'metadata'>, at: string): void {
  assertDepth(metadata, `${at}/metadata`)
  assertStorable({ text, metadata }, at)
  assertSize(metadata, `${at}/metadata`, MAX_METADATA_BYTES)
}

async function documentNotFound(db: Db, collection: Owned, id: string): Promise<SluiceError> {
  if (!(await readCollection(db, collection))) return collectionNotFound(collection.name)
  return new SluiceError('document_not_found', `There is no document "${id}" in the collection "${collection.name}".`, {
    context: { field: '/id', collection: collection.name, document: id },
  })
}

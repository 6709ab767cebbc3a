import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { DOCUMENT_ID, MOST_PASSAGES, MOST_TEXT } from '#shared/collections/collection.ts'
import {
  type DocumentRow,
  deleteDocument,
  listDocuments,
  type NewDocument,
  type Owned,
  putDocuments,
  readCollection,
  readDocument,
} from '#shared/db/collections.ts'
import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import { nameSchema, noCollection } from './collections.ts'

const MOST_AT_ONCE = 500
const MAX_METADATA_BYTES = 16_384

const idSchema = Type.String({
  pattern: DOCUMENT_ID,
  description: 'Yours: letters, digits, `.`, `_`, `:` and `-`.',
  examples: ['returns'],
})
const params = Type.Object({ name: nameSchema })
const documentParams = Type.Object({ name: nameSchema, id: idSchema })

const content = {
  text: Type.String({ minLength: 1, maxLength: MOST_TEXT, pattern: '\\S' }),
  metadata: Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), {
      description: `Yours; given back as it is, and not searched. At most ${MAX_METADATA_BYTES} bytes.`,
    }),
  ),
}
const example = { text: 'Anything can be returned within 30 days of delivery. Worn shoes are the exception.' }

const moment = Type.String({ format: 'date-time' })
const fields = {
  id: Type.String(),
  metadata: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
  characters: Type.Integer(),
  passages: Type.Integer({ description: 'How many its text was cut into.' }),
  created_at: moment,
  updated_at: moment,
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
        description: `Up to ${MOST_AT_ONCE}, all or none; each in the place of the one with its id.`,
        params,
        body: Type.Array(Type.Object({ id: idSchema, ...content }, { additionalProperties: false }), {
          minItems: 1,
          maxItems: MOST_AT_ONCE,
          examples: [[{ id: 'returns', ...example }]],
        }),
        response: { 200: Type.Object({ data: Type.Array(entrySchema, { description: 'Without their texts.' }) }) },
      },
    },
    async ({ params: { name }, body, apiKey }) => {
      const ids = new Set<string>()
      for (const [n, one] of body.entries()) {
        assertUsable(one, `/${n}`)
        if (ids.has(one.id)) throw invalid(`/${n}/id`, 'must be another than those before it')
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
        description: 'By id, without their texts.',
        params,
        querystring: Type.Object(
          {
            after: Type.Optional({ ...idSchema, description: '`next` of the page before' }),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(entrySchema),
            has_more: Type.Boolean(),
            next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
          }),
        },
      },
    },
    async ({ params: { name }, query: { after, limit }, apiKey }) => {
      const rows = await listDocuments(db, { apiKeyId: apiKey.id, name }, { after: after ?? null, limit: limit + 1 })
      if (!rows) throw noCollection(name)
      const page = rows.slice(0, limit)
      const hasMore = rows.length > limit
      return { data: page.map(entryJson), has_more: hasMore, next: hasMore ? page.at(-1)!.id : null }
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
          'In the place of the one before. It is cut into passages, at paragraphs where that can be, which overlap a little.',
        params: documentParams,
        body: Type.Object(content, { additionalProperties: false, examples: [example] }),
        response: { 200: entrySchema },
      },
    },
    async ({ params: { name, id }, body, apiKey }) => {
      assertUsable(body, '')
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
      const whose = { apiKeyId: apiKey.id, name }
      const row = await readDocument(db, whose, id)
      if (!row) throw await noDocument(db, whose, id)
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
        description: 'Tasks that were accepted keep what was found for them.',
        params: documentParams,
        response: { 200: entrySchema },
      },
    },
    async ({ params: { name, id }, apiKey }) => {
      const whose = { apiKeyId: apiKey.id, name }
      const row = await deps.writeCollection(whose, () => deleteDocument(db, whose, id))
      if (!row) throw await noDocument(db, whose, id)
      return entryJson(row)
    },
  )
}

type Given = Omit<NewDocument, 'metadata'> & { metadata?: Record<string, unknown> }

async function put(
  { db, writeCollection }: Pick<ApiDeps, 'db' | 'writeCollection'>,
  whose: Owned,
  given: Given[],
): Promise<DocumentRow[]> {
  const documents = given.map(one => ({ ...one, metadata: one.metadata ?? null }))
  const outcome = await writeCollection(whose, () => putDocuments(db, whose, documents))
  switch (outcome.kind) {
    case 'put':
      return outcome.documents
    case 'no_collection':
      throw noCollection(whose.name)
    case 'full':
      throw new SluiceError('collection_full', `A collection holds ${MOST_PASSAGES} passages.`, {
        context: { collection: whose.name, passages: outcome.passages, limit: MOST_PASSAGES },
      })
  }
}

const invalid = (field: string, message: string) =>
  new SluiceError('invalid_request', `${field} ${message}`, { context: { field } })

/** What the route's schema cannot say. @param at where it stands in the body */
function assertUsable({ text, metadata }: Pick<Given, 'text' | 'metadata'>, at: string): void {
  const field = `${at}/metadata`
  if (isTooDeep(metadata)) throw invalid(field, `is nested deeper than ${MAX_DEPTH} levels`)
  const unstorable = findUnstorable({ text, metadata })
  if (unstorable !== null)
    throw new SluiceError('invalid_text', undefined, { context: { field: `${at}${unstorable}` } })
  if (metadata && Buffer.byteLength(JSON.stringify(metadata)) > MAX_METADATA_BYTES)
    throw new SluiceError('field_too_large', undefined, { context: { field, limit_bytes: MAX_METADATA_BYTES } })
}

async function noDocument(db: Db, whose: Owned, id: string): Promise<SluiceError> {
  if (!(await readCollection(db, whose))) return noCollection(whose.name)
  return new SluiceError('document_not_found', undefined, { context: { collection: whose.name, document: id } })
}

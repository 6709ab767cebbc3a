import { Readable } from 'node:stream'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { SluiceError } from '#shared/errors.ts'
import { FileLost } from '#shared/files/backend.ts'
import type { FileRow, FileStore } from '#shared/files/store.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { dropWhenStalled } from '../backpressure.ts'
import type { ApiDeps } from '../deps.ts'
import { textResponse } from '../plugins/openapi.ts'
import { acceptForms, type FormFields, invalid, receiveFile } from '../receive-file.ts'

/** Bytes of a batch's input; OpenAI's 200 MB. */
export const MAX_FILE_BYTES = 209_715_200
const MAX_LIST = 10_000
const EXPIRES_AFTER = { min: 3600, max: 2_592_000 }

const id = Type.String({ examples: ['file-019a9f0c5d7e7cc2a1b2c3d4e5f60718'] })
const seconds = (description?: string) => Type.Integer({ description: description ?? 'Unix time, seconds.' })

export const fileSchema = Type.Object({
  id,
  object: Type.Literal('file'),
  bytes: Type.Integer(),
  created_at: seconds(),
  expires_at: Type.Optional(seconds('Unix time, seconds; absent: never.')),
  filename: Type.String(),
  purpose: Type.Enum(['batch', 'batch_output']),
  status: Type.Literal('processed'),
})

const unix = (moment: Date) => Math.floor(moment.getTime() / 1000)

const fileJson = (file: FileRow) => ({
  id: toWire('file', file.id),
  object: 'file' as const,
  bytes: file.bytes,
  created_at: unix(file.created_at),
  ...(file.expires_at && { expires_at: unix(file.expires_at) }),
  filename: file.filename,
  purpose: file.purpose as 'batch' | 'batch_output',
  status: 'processed' as const,
})

const params = Type.Object({ id: Type.String({ description: 'File id, `file-…`' }) })

/** A file that this key may see. @throws file_not_found, naming `field` */
export async function ownFile(files: FileStore, request: FastifyRequest, wire: string, field = 'id'): Promise<FileRow> {
  const id = fromWire('file', wire)
  const file = id && (await files.find(id))
  const { apiKey } = request
  if (file && (file.api_key_id === apiKey.id || apiKey.scopes.includes('admin'))) return file
  throw notFound(wire, field)
}

const notFound = (wire: string, field: string) =>
  new SluiceError('file_not_found', `No such File object: ${wire.slice(0, 100)}`, { context: { field: `/${field}` } })

/** OpenAI's `/v1/files`, for what batches read and write. */
export const openAiFiles: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { files }) => {
  await acceptForms(app)

  app.post(
    '/v1/files',
    {
      config: { scope: 'submit', upload: true },
      // The form is read by the handler, as it comes; the schema says what it looks like.
      validatorCompiler: () => () => true,
      schema: {
        tags: ['openai'],
        summary: 'Upload a file, for a batch to read',
        description: `At most ${MAX_FILE_BYTES / 1_048_576} MB. The fields may come in any order.`,
        consumes: ['multipart/form-data'],
        body: Type.Object(
          {
            file: Type.Unsafe<string>({ type: 'string', format: 'binary' }),
            purpose: Type.Literal('batch'),
            'expires_after[anchor]': Type.Optional(Type.Literal('created_at')),
            'expires_after[seconds]': Type.Optional(
              Type.Integer({
                minimum: EXPIRES_AFTER.min,
                maximum: EXPIRES_AFTER.max,
                description: 'Else as the setting `FILE_RETENTION_DAYS` says.',
              }),
            ),
          },
          { additionalProperties: false },
        ),
        response: { 200: fileSchema },
      },
    },
    async request => {
      const { file } = await receiveFile(request, files, { maxBytes: MAX_FILE_BYTES, checkField, finish })
      return fileJson(file)
    },
  )

  app.get(
    '/v1/files',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'List files',
        description: 'A key sees its own files, an admin key all.',
        querystring: Type.Object(
          {
            after: Type.Optional(Type.String({ description: '`last_id` of the page before' })),
            limit: Type.Integer({ minimum: 1, maximum: MAX_LIST, default: MAX_LIST }),
            order: Type.Enum(['asc', 'desc'], { default: 'desc', description: 'By the time of creation.' }),
            purpose: Type.Optional(
              Type.String({ maxLength: 100, pattern: '^[^\\u0000]*$', description: 'Only these.' }),
            ),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            object: Type.Literal('list'),
            data: Type.Array(fileSchema),
            first_id: Type.Union([id, Type.Null()]),
            last_id: Type.Union([id, Type.Null()]),
            has_more: Type.Boolean(),
          }),
        },
      },
    },
    async request => {
      const { after, limit, order, purpose } = request.query
      const afterId = after === undefined ? undefined : fromWire('file', after)
      if (afterId === null) throw invalid('after', 'is not a file id')
      const { rows, more } = await files.list({
        apiKeyId: request.apiKey.scopes.includes('admin') ? null : request.apiKey.id,
        limit,
        order: order as 'asc' | 'desc',
        ...(afterId && { after: afterId }),
        ...(purpose && { purpose }),
      })
      const data = rows.map(fileJson)
      return {
        object: 'list' as const,
        data,
        first_id: data[0]?.id ?? null,
        last_id: data.at(-1)?.id ?? null,
        has_more: more,
      }
    },
  )

  app.get(
    '/v1/files/:id',
    {
      config: { scope: 'read' },
      schema: { tags: ['openai'], summary: 'Read what is known of a file', params, response: { 200: fileSchema } },
    },
    async request => fileJson(await ownFile(files, request, request.params.id)),
  )

  app.get<{ Params: { id: string } }>(
    '/v1/files/:id/content',
    {
      // It would read the file and throw it away.
      exposeHeadRoute: false,
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'Download a file',
        params,
        response: textResponse('application/octet-stream', 'The bytes as they were uploaded or written'),
      },
    },
    async (request, reply) => {
      const { id } = await ownFile(files, request, request.params.id)
      const found = await files.read(id)
      if (!found) throw notFound(request.params.id, 'id')
      const stream = await begin(found.bytes).catch(error => {
        throw error instanceof FileLost ? notFound(request.params.id, 'id') : error
      })
      dropWhenStalled(reply.raw)
      return reply
        .type('application/octet-stream')
        .header('content-length', found.file.bytes)
        .header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(found.file.filename)}`)
        .send(stream)
    },
  )

  app.delete(
    '/v1/files/:id',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Delete a file',
        params,
        response: { 200: Type.Object({ id, object: Type.Literal('file'), deleted: Type.Boolean() }) },
      },
    },
    async request => {
      const file = await ownFile(files, request, request.params.id)
      return { id: toWire('file', file.id), object: 'file' as const, deleted: await files.remove(file.id) }
    },
  )
}

const ANCHOR = 'expires_after[anchor]'
const SECONDS = 'expires_after[seconds]'

function checkField(name: string, value: string): void {
  if (name === 'purpose') {
    if (value !== 'batch') throw invalid(name, 'must be "batch": files are for batches here')
  } else if (name === ANCHOR) {
    if (value !== 'created_at') throw invalid(name, 'must be "created_at"')
  } else if (name === SECONDS) {
    const { min, max } = EXPIRES_AFTER
    if (!/^\d{1,9}$/.test(value) || Number(value) < min || Number(value) > max)
      throw invalid(name, `must be a whole number from ${min} to ${max}`)
  } else {
    throw invalid(name.slice(0, 100), 'is not known')
  }
}

function finish(fields: FormFields): { purpose: string; expiresSeconds?: number } {
  if (fields.purpose === undefined) throw invalid('purpose', 'is missing')
  const [anchor, seconds] = [fields[ANCHOR], fields[SECONDS]]
  if (seconds === undefined && anchor !== undefined) throw invalid(SECONDS, 'is missing')
  if (seconds !== undefined && anchor === undefined) throw invalid(ANCHOR, 'is missing')
  return { purpose: fields.purpose, ...(seconds !== undefined && { expiresSeconds: Number(seconds) }) }
}

/**
 * Reads the first piece, so that what keeps it from being read is answered as an error instead of a connection that
 * breaks off under a 200.
 */
export async function begin(bytes: AsyncIterable<Uint8Array>): Promise<Readable> {
  const pieces = bytes[Symbol.asyncIterator]()
  const first = await pieces.next()
  async function* all() {
    if (!first.done) yield first.value
    for (let next = await pieces.next(); !next.done; next = await pieces.next()) yield next.value
  }
  const stream = Readable.from(all(), { objectMode: false, highWaterMark: 1 })
  // A client may be gone before anything is read.
  stream.once('close', () => void pieces.return?.())
  return stream
}

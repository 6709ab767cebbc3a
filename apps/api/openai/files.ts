import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { FileLost } from '#shared/files/backend.ts'
import type { FileRow } from '#shared/files/store.ts'
import { toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { dropWhenStalled } from '../http/backpressure.ts'
import { textResponse } from '../http/openapi.ts'
import { ownerFilter, pageQuery } from '../http/pagination.ts'
import { acceptForms, MAX_FILE_BYTES, receiveFile } from '../http/receive-file.ts'
import { toUnixTime, unixTime } from '../http/schemas.ts'
import { startStream } from '../http/start-stream.ts'
import { checkFileField, fileForm, OUTPUT_PURPOSES, readFileForm, UPLOAD_PURPOSES } from './file-form.ts'
import { listJson, listSchema } from './list.ts'
import { fileNotFound, ownFile, readFileCursor } from './own-file.ts'

const MAX_LIST = 10_000

const id = Type.String({ examples: ['file-019a9f0c5d7e7cc2a1b2c3d4e5f60718'] })

export const fileSchema = Type.Object({
  id,
  object: Type.Literal('file'),
  bytes: Type.Integer(),
  created_at: unixTime,
  expires_at: Type.Optional({ ...unixTime, description: 'Unix time in seconds. Absent: never.' }),
  filename: Type.String(),
  purpose: Type.Enum([...UPLOAD_PURPOSES, 'batch_output']),
  status: Type.Literal('processed'),
})

const fileJson = (file: FileRow) => ({
  id: toWire('file', file.id),
  object: 'file' as const,
  bytes: file.bytes,
  created_at: toUnixTime(file.created_at),
  ...(file.expires_at && { expires_at: toUnixTime(file.expires_at) }),
  filename: file.filename,
  purpose: file.purpose as (typeof UPLOAD_PURPOSES)[number] | 'batch_output',
  status: 'processed' as const,
})

const params = Type.Object({ id: Type.String({ description: 'File id, `file-…`' }) })

/** OpenAI's `/v1/files`: the files that batches read and write. */
export const openAiFiles: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { files }) => {
  acceptForms(app)

  app.post(
    '/v1/files',
    {
      config: { scope: 'submit', upload: true },
      // The handler reads the form as a stream; the schema only documents it.
      validatorCompiler: () => () => true,
      schema: {
        tags: ['openai'],
        summary: 'Upload a file',
        description: `Batches read files of the purpose \`batch\`. Files of the other purposes are only stored. At most ${MAX_FILE_BYTES / 1_048_576} MB. The fields may come in any order.`,
        consumes: ['multipart/form-data'],
        body: fileForm,
        response: { 200: fileSchema },
      },
    },
    async request => {
      const { file } = await receiveFile(request, files, {
        maxBytes: MAX_FILE_BYTES,
        checkField: checkFileField,
        finish: readFileForm,
      })
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
            ...pageQuery({ from: 'last_id' }),
            limit: Type.Integer({ minimum: 1, maximum: MAX_LIST, default: MAX_LIST }),
            order: Type.Enum(['asc', 'desc'], { default: 'desc', description: 'Order by creation time.' }),
            purpose: Type.Optional(
              Type.Enum([...UPLOAD_PURPOSES, ...OUTPUT_PURPOSES], { description: 'Only files of this purpose.' }),
            ),
          },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: listSchema(fileSchema, id) },
      },
    },
    async request => {
      const { after, limit, order, purpose } = request.query
      const afterId = after === undefined ? undefined : await readFileCursor(files, request, after)
      const { rows, more } = await files.list({
        apiKeyId: ownerFilter(request),
        limit,
        order: order as 'asc' | 'desc',
        ...(afterId && { after: afterId }),
        ...(purpose && { purpose }),
      })
      return listJson(rows.map(fileJson), more)
    },
  )

  app.get(
    '/v1/files/:id',
    {
      config: { scope: 'read' },
      schema: { tags: ['openai'], summary: 'Read a file’s metadata', params, response: { 200: fileSchema } },
    },
    async request => fileJson(await ownFile(files, request, request.params.id)),
  )

  app.get<{ Params: { id: string } }>(
    '/v1/files/:id/content',
    {
      // HEAD would read the whole file for nothing.
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
      if (!found) throw fileNotFound(request.params.id, 'id')
      const stream = await startStream(found.bytes).catch(error => {
        throw error instanceof FileLost ? fileNotFound(request.params.id, 'id') : error
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

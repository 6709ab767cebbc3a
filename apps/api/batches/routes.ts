import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { csvHeader, csvOutputLine, nativeOutputLine } from '#shared/batches/output.ts'
import { listBatches } from '#shared/db/batches/read.ts'
import type { EndedLine } from '#shared/db/batches/read-lines.ts'
import { streamResults } from '#shared/db/batches/read-lines.ts'
import { retryBatch } from '#shared/db/batches/retry.ts'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { dropWhenStalled } from '../http/backpressure.ts'
import { startEventStream } from '../http/event-stream.ts'
import { textResponse } from '../http/openapi.ts'
import { ownerFilter, pageJson, pageQuery, pageSchema, readCursor } from '../http/pagination.ts'
import { startStream } from '../http/start-stream.ts'
import { whenClosed } from '../http/when-closed.ts'
import { batchJson, batchSchema } from './batch-json.ts'
import { cancelOwnBatch, ownBatch } from './own-batch.ts'

const params = Type.Object({ id: Type.String({ description: 'Batch id, `batch_…`' }) })

/** `/api/v1/batches/…`: read, cancel and retry batches, including those of OpenAI's API. */
export const batches: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db } = deps

  app.get(
    '/api/v1/batches',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['batches'],
        summary: 'List batches, newest first',
        description: 'A key sees its own batches, an admin key all.',
        querystring: Type.Object(pageQuery(), { additionalProperties: false, required: [] }),
        response: { 200: pageSchema(batchSchema) },
      },
    },
    async request => {
      const { after, limit } = request.query
      const afterId = await readCursor(db, request, after, { kind: 'batch' })
      const rows = await listBatches(db, { apiKeyId: ownerFilter(request), after: afterId, limit: limit + 1 })
      return pageJson(rows, limit, { json: batchJson, cursor: row => toWire('batch', row.id) })
    },
  )

  app.get(
    '/api/v1/batches/:id',
    {
      config: { scope: 'read' },
      schema: { tags: ['batches'], summary: 'Read a batch with its progress', params, response: { 200: batchSchema } },
    },
    async request => batchJson(await ownBatch(deps, request)),
  )

  app.post(
    '/api/v1/batches/:id/cancel',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['batches'],
        summary: 'Cancel a batch',
        description:
          'Lines that ended keep their results, calls in flight may finish, and the other lines are not run.',
        params,
        response: { 200: batchSchema },
      },
    },
    async request => batchJson(await cancelOwnBatch(deps, request)),
  )

  app.post(
    '/api/v1/batches/:id/retry',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['batches'],
        summary: 'Retry the lines that did not succeed',
        description:
          'Runs the failed, expired and cancelled lines of an ended batch again, in a new completion window. Lines that were refused when the file was read are not retried.',
        params,
        response: { 200: batchSchema },
      },
    },
    async request => {
      const { id, completion_window } = await ownBatch(deps, request)
      const outcome = await retryBatch(db, id, Number.parseInt(completion_window, 10) * 3600)
      if (outcome.kind !== 'retried')
        throw new SluiceError('nothing_to_retry', undefined, { context: { field: '/id', id: request.params.id } })
      return batchJson(await ownBatch(deps, request))
    },
  )

  app.get<{ Params: { id: string }; Querystring: { format: 'jsonl' | 'csv' } }>(
    '/api/v1/batches/:id/results',
    {
      exposeHeadRoute: false,
      config: { scope: 'read' },
      schema: {
        tags: ['batches'],
        summary: 'Read the results of a batch',
        description: 'The results of all lines that have ended, in the order of the input. Works while the batch runs.',
        params,
        querystring: Type.Object(
          { format: Type.Enum(['jsonl', 'csv'], { default: 'jsonl' }) },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: {
            description: 'One line per result, as JSON or as CSV with a header',
            content: { 'application/jsonl': { schema: Type.String() }, 'text/csv': { schema: Type.String() } },
          },
        },
      },
    },
    async (request, reply) => {
      const { id } = await ownBatch(deps, request)
      const csv = request.query.format === 'csv'
      const write = csv ? csvOutputLine : nativeOutputLine
      const stream = await startStream(encode(streamResults(db, id), write, csv ? `${csvHeader()}\n` : ''))
      dropWhenStalled(reply.raw)
      return reply
        .type(csv ? 'text/csv; charset=utf-8' : 'application/jsonl')
        .header('content-disposition', `attachment; filename="${request.params.id}.${csv ? 'csv' : 'jsonl'}"`)
        .send(stream)
    },
  )

  app.get<{ Params: { id: string } }>(
    '/api/v1/batches/:id/events',
    {
      exposeHeadRoute: false,
      config: { scope: 'read' },
      schema: {
        tags: ['batches'],
        summary: 'Follow a batch (Server-Sent Events)',
        description: 'Events: `progress` with the batch after each change. The last event is `done`, with the batch.',
        params,
        response: textResponse('text/event-stream', 'Events up to `done`'),
      },
    },
    async (request, reply) => {
      const leave = deps.streams.enter(request.apiKey.id)
      whenClosed(reply.raw, leave)
      const batch = await ownBatch(deps, request)
      const stream = startEventStream(request, reply, deps.draining)
      try {
        for await (const { json, ended } of deps.batchFeed.follow(batch, stream.over)) {
          if (!(await stream.send(`event: ${ended ? 'done' : 'progress'}\ndata: ${json}\n\n`))) break
        }
      } finally {
        stream.end()
      }
    },
  )
}

async function* encode(slices: AsyncIterable<EndedLine[]>, write: (line: EndedLine) => string, header: string) {
  if (header) yield Buffer.from(header)
  for await (const slice of slices) yield Buffer.from(slice.map(line => `${write(line)}\n`).join(''))
}

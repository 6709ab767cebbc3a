import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { csvHeader, csvOutputLine, nativeOutputLine } from '#shared/batches/output.ts'
import type { EndedLine } from '#shared/batches/types.ts'
import { type BatchView, findBatch, listBatches, retryBatch } from '#shared/db/batches.ts'
import { streamResults } from '#shared/db/lines.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire } from '#shared/ids.ts'
import { drained, dropWhenStalled } from '../backpressure.ts'
import { batchJson, batchSchema, hasEnded } from '../batch-json.ts'
import { cancelOwn, ownBatch } from '../batches.ts'
import type { ApiDeps } from '../deps.ts'
import { textResponse } from '../plugins/openapi.ts'
import { invalid } from '../receive-file.ts'
import { begin } from './openai-files.ts'

const LOOK_MS = 1000
const KEEP_ALIVE_MS = 15_000
const params = Type.Object({ id: Type.String({ description: 'Batch id, `batch_…`' }) })

/** `/api/v1/batches/…`: what becomes of batches, those of OpenAI's API included. */
export const batches: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db } = deps

  app.get(
    '/api/v1/batches',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['batches'],
        summary: 'List batches, newest first',
        description: 'A key sees its own, an admin key all.',
        querystring: Type.Object(
          {
            after: Type.Optional(Type.String({ description: '`next` of the page before' })),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(batchSchema),
            has_more: Type.Boolean(),
            next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
          }),
        },
      },
    },
    async request => {
      const { after, limit } = request.query
      const afterId = after === undefined ? null : fromWire('batch', after)
      if (after !== undefined && afterId === null) throw invalid('after', 'is not a batch id')
      const apiKeyId = request.apiKey.scopes.includes('admin') ? null : request.apiKey.id
      const rows = await listBatches(db, { apiKeyId, after: afterId, limit: limit + 1 })
      const data = rows.slice(0, limit).map(batchJson)
      const more = rows.length > limit
      return { data, has_more: more, next: more ? data.at(-1)!.id : null }
    },
  )

  app.get(
    '/api/v1/batches/:id',
    {
      config: { scope: 'read' },
      schema: { tags: ['batches'], summary: 'Read how far a batch is', params, response: { 200: batchSchema } },
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
        description: 'What has been answered stays, and what is under way may end; the rest is not asked.',
        params,
        response: { 200: batchSchema },
      },
    },
    async request => batchJson(await cancelOwn(deps, request)),
  )

  app.post(
    '/api/v1/batches/:id/retry',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['batches'],
        summary: 'Run again what did not succeed',
        description:
          'Of a batch that has ended: the lines that failed, expired or were cancelled, within its completion window from now on. What was refused when it was read stays so.',
        params,
        response: { 200: batchSchema },
      },
    },
    async request => {
      const { id, completion_window } = await ownBatch(deps, request)
      const outcome = await retryBatch(db, id, Number.parseInt(completion_window, 10) * 3600)
      if (outcome.kind !== 'retried') throw new SluiceError('nothing_to_retry')
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
        summary: 'Read the results',
        description: 'Of the lines that have ended by now, in the order of the input. Also while the batch runs.',
        params,
        querystring: Type.Object(
          { format: Type.Enum(['jsonl', 'csv'], { default: 'jsonl' }) },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: {
            description: 'A line each, as JSON or as CSV with a header',
            content: { 'application/jsonl': { schema: Type.String() }, 'text/csv': { schema: Type.String() } },
          },
        },
      },
    },
    async (request, reply) => {
      const { id } = await ownBatch(deps, request)
      const csv = request.query.format === 'csv'
      const write = csv ? csvOutputLine : nativeOutputLine
      const stream = await begin(texts(streamResults(db, id), write, csv ? `${csvHeader()}\n` : ''))
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
        description: '`progress` with the batch, when anything about it has changed; `done` with it is the last.',
        params,
        response: textResponse('text/event-stream', 'The events, until `done`'),
      },
    },
    async (request, reply) => {
      let batch: BatchView | null = await ownBatch(deps, request)
      reply.hijack()
      const response = reply.raw
      dropWhenStalled(response)
      response.writeHead(200, {
        'content-type': 'text/event-stream; charset=utf-8',
        'cache-control': 'no-cache, no-transform',
        'x-accel-buffering': 'no',
        'x-request-id': request.id,
      })
      const keepAlive = setInterval(() => response.write(': keep-alive\n\n'), KEEP_ALIVE_MS)
      const over = new AbortController()
      const stop = () => over.abort()
      response.once('close', stop)
      deps.draining.addEventListener('abort', stop)
      if (deps.draining.aborted || response.destroyed) stop()
      try {
        for (let told = ''; batch && !over.signal.aborted; ) {
          const ended = hasEnded(batch.status)
          const json = JSON.stringify(batchJson(batch))
          if (json !== told) {
            told = json
            const event = `event: ${ended ? 'done' : 'progress'}\ndata: ${json}\n\n`
            if (!response.write(event) && !(await drained(response, deps.draining))) break
          }
          if (ended) break
          await sleep(LOOK_MS, undefined, { signal: over.signal }).catch(() => undefined)
          // A look that fails is made again: the client would only come back to the same.
          batch = await findBatch(db, batch.id).catch((): BatchView | null => batch)
        }
      } finally {
        clearInterval(keepAlive)
        response.off('close', stop)
        deps.draining.removeEventListener('abort', stop)
        response.end()
      }
    },
  )
}

async function* texts(slices: AsyncIterable<EndedLine[]>, write: (line: EndedLine) => string, head: string) {
  if (head) yield Buffer.from(head)
  for await (const slice of slices) yield Buffer.from(slice.map(line => `${write(line)}\n`).join(''))
}

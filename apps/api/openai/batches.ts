import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { endpointProblem } from '#shared/batches/endpoints/index.ts'
import { listBatches } from '#shared/db/batches/read.ts'
import { SluiceError } from '#shared/errors.ts'
import { openAiBatchJson, openAiBatchSchema } from '../batches/batch-json.ts'
import { acceptBatch, cancelOwnBatch, ownBatch, webhookTarget } from '../batches/own-batch.ts'
import type { ApiDeps } from '../deps.ts'
import { dollarsInput, readDollars } from '../http/dollars.ts'
import { idempotencyKey, idempotencyKeyOf } from '../http/idempotency.ts'
import { ownerFilter, pageQuery, readCursor } from '../http/pagination.ts'
import { invalid } from '../http/receive-file.ts'
import { assertStorable } from '../http/stored-values.ts'
import { traceparentOf } from '../http/trace.ts'
import { listJson, listSchema } from './list.ts'
import { ownFile } from './own-file.ts'

const DAY_SECONDS = 86_400

export const newBatchSchema = Type.Object(
  {
    input_file_id: Type.String({ maxLength: 100 }),
    endpoint: Type.String({ maxLength: 200, examples: ['/v1/chat/completions'] }),
    completion_window: Type.Literal('24h'),
    metadata: Type.Optional(
      Type.Union([
        Type.Record(Type.String(), Type.String({ maxLength: 512 }), {
          maxProperties: 16,
          propertyNames: { maxLength: 64 },
        }),
        Type.Null(),
      ]),
    ),
    output_expires_after: Type.Optional(
      Type.Object(
        { anchor: Type.Literal('created_at'), seconds: Type.Integer({ minimum: 3600, maximum: 2_592_000 }) },
        { additionalProperties: false },
      ),
    ),
    max_cost_usd: Type.Optional(dollarsInput('Not in OpenAI’s API: the maximum cost of the batch.')),
    webhook_url: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 2000,
        description: 'Not in OpenAI’s API: is notified when the batch ends.',
      }),
    ),
  },
  {
    additionalProperties: false,
    examples: [
      {
        input_file_id: 'file-019a9f0c5d7e7cc2a1b2c3d4e5f60718',
        endpoint: '/v1/chat/completions',
        completion_window: '24h',
      },
    ],
  },
)

/** OpenAI's `/v1/batches`. */
export const openAiBatches: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  const { db, jobs, files } = deps

  app.post<{ Body: Static<typeof newBatchSchema> }>(
    '/v1/batches',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Create a batch',
        description:
          'Runs the requests of an uploaded file. The file is checked after the response: if it has errors, the batch becomes `failed` and lists them in `errors`.',
        headers: Type.Object({ 'idempotency-key': idempotencyKey('batch') }),
        body: newBatchSchema,
        response: { 200: openAiBatchSchema },
      },
    },
    async request => {
      const { input_file_id, endpoint, completion_window, metadata, output_expires_after, ...own } = request.body
      const unserved = endpointProblem(endpoint, jobs)
      if (unserved) throw new SluiceError('invalid_request', unserved, { context: { field: '/endpoint' } })
      assertStorable(metadata, '/metadata')
      const file = await ownFile(files, request, input_file_id, 'input_file_id')
      if (file.purpose !== 'batch')
        throw invalid('input_file_id', 'must be a file of purpose "batch"; upload it with that purpose')
      const batch = await acceptBatch(
        deps,
        {
          apiKeyId: request.apiKey.id,
          surface: 'openai',
          endpoint,
          kind: null,
          inputFileId: file.id,
          mapping: null,
          options: {},
          priority: 'normal',
          metadata: metadata ?? null,
          completionWindow: completion_window,
          windowSeconds: DAY_SECONDS,
          outputExpiresSeconds: output_expires_after?.seconds ?? null,
          webhookUrl: webhookTarget(deps, own.webhook_url, 'webhook_url'),
          maxCostUsd: own.max_cost_usd === undefined ? null : readDollars(own.max_cost_usd, '/max_cost_usd'),
          traceparent: traceparentOf(request),
        },
        { key: idempotencyKeyOf(request), input: file.id },
      )
      return openAiBatchJson(batch)
    },
  )

  app.get(
    '/v1/batches',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['openai'],
        summary: 'List batches, newest first',
        description: 'Lists the batches that were created with this API. A key sees its own batches, an admin key all.',
        querystring: Type.Object(pageQuery({ from: 'last_id' }), { additionalProperties: false, required: [] }),
        response: { 200: listSchema(openAiBatchSchema) },
      },
    },
    async request => {
      const { after, limit } = request.query
      const afterId = await readCursor(db, request, after, { kind: 'batch', from: 'last_id' })
      const apiKeyId = ownerFilter(request)
      const rows = await listBatches(db, { apiKeyId, surface: 'openai', after: afterId, limit: limit + 1 })
      return listJson(rows.slice(0, limit).map(openAiBatchJson), rows.length > limit)
    },
  )

  const params = Type.Object({ id: Type.String({ description: 'Batch id, `batch_…`' }) })
  app.get(
    '/v1/batches/:id',
    {
      config: { scope: 'read' },
      schema: { tags: ['openai'], summary: 'Read a batch', params, response: { 200: openAiBatchSchema } },
    },
    async request => openAiBatchJson(await ownBatch(deps, request)),
  )

  app.post(
    '/v1/batches/:id/cancel',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['openai'],
        summary: 'Cancel a batch',
        description:
          'Lines that ended keep their results, calls in flight may finish, and the other lines are not run.',
        params,
        response: { 200: openAiBatchSchema },
      },
    },
    async request => openAiBatchJson(await cancelOwnBatch(deps, request)),
  )
}

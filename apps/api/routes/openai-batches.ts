import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { type Static, Type } from 'typebox'
import { whyNotServed } from '#shared/batches/endpoints/index.ts'
import { listBatches } from '#shared/db/batches.ts'
import { fromWire } from '#shared/ids.ts'
import { findUnstorable } from '#shared/text.ts'
import { openAiBatchJson, openAiBatchSchema } from '../batch-json.ts'
import { acceptBatch, cancelOwn, ownBatch, targetOf } from '../batches.ts'
import type { ApiDeps } from '../deps.ts'
import { dollarsInput, exactDollars } from '../dollars.ts'
import { idempotencyKey, idempotencyKeyOf } from '../idempotency.ts'
import { traceparentOf } from '../plugins/trace.ts'
import { invalid } from '../receive-file.ts'
import { ownFile } from './openai-files.ts'

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
    max_cost_usd: Type.Optional(dollarsInput('Not in OpenAI’s API: the most that the batch may cost.')),
    webhook_url: Type.Optional(
      Type.String({ minLength: 1, maxLength: 2000, description: 'Not in OpenAI’s API: told when it has ended.' }),
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
        summary: 'Run the requests of a file',
        description: 'What is wrong with the file is found afterwards: the batch is `failed` then, with its `errors`.',
        headers: Type.Object({ 'idempotency-key': idempotencyKey('batch') }),
        body: newBatchSchema,
        response: { 200: openAiBatchSchema },
      },
    },
    async request => {
      const { input_file_id, endpoint, completion_window, metadata, output_expires_after, ...own } = request.body
      const unserved = whyNotServed(endpoint, jobs)
      if (unserved) throw invalid('endpoint', unserved)
      const unstorable = findUnstorable(metadata)
      if (unstorable !== null) throw invalid(`metadata${unstorable}`, 'holds U+0000 or a lone surrogate')
      const file = await ownFile(files, request, input_file_id, 'input_file_id')
      if (file.purpose !== 'batch') throw invalid('input_file_id', 'must be a file of purpose "batch"')
      const maxCostUsd = own.max_cost_usd === undefined ? null : exactDollars(own.max_cost_usd)
      if (own.max_cost_usd !== undefined && maxCostUsd === null)
        throw invalid('max_cost_usd', 'is not an exact decimal')
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
          webhookUrl: targetOf(deps, own.webhook_url, 'webhook_url'),
          maxCostUsd,
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
        description: 'Those of this API; a key sees its own, an admin key all.',
        querystring: Type.Object(
          {
            after: Type.Optional(Type.String({ description: '`last_id` of the page before' })),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            object: Type.Literal('list'),
            data: Type.Array(openAiBatchSchema),
            first_id: Type.Union([Type.String(), Type.Null()]),
            last_id: Type.Union([Type.String(), Type.Null()]),
            has_more: Type.Boolean(),
          }),
        },
      },
    },
    async request => {
      const { after, limit } = request.query
      const afterId = after === undefined ? null : fromWire('batch', after)
      if (after !== undefined && afterId === null) throw invalid('after', 'is not a batch id')
      const apiKeyId = request.apiKey.scopes.includes('admin') ? null : request.apiKey.id
      const rows = await listBatches(db, { apiKeyId, surface: 'openai', after: afterId, limit: limit + 1 })
      const data = rows.slice(0, limit).map(openAiBatchJson)
      return {
        object: 'list' as const,
        data,
        first_id: data[0]?.id ?? null,
        last_id: data.at(-1)?.id ?? null,
        has_more: rows.length > limit,
      }
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
        description: 'What has been answered stays, and what is under way may end; the rest is not asked.',
        params,
        response: { 200: openAiBatchSchema },
      },
    },
    async request => openAiBatchJson(await cancelOwn(deps, request)),
  )
}

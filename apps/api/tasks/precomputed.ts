import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import {
  ANY_INPUT,
  deletePrecomputed,
  listPrecomputed,
  type PrecomputedRow,
  putPrecomputed,
} from '#shared/db/precomputed.ts'
import { SluiceError } from '#shared/errors.ts'
import type { InputContext, JobKind } from '#shared/jobs/define.ts'
import { resultFits } from '#shared/jobs/result-fits.ts'
import type { ApiDeps } from '../deps.ts'
import { invalidField } from '../http/invalid-field.ts'
import { pageJson, pageQuery, pageSchema } from '../http/pagination.ts'
import { timestamp } from '../http/schemas.ts'
import { assertDepth, assertSize, assertStorable } from '../http/stored-values.ts'
import { assertInput, prepareInput } from './submit-task.ts'

/** Bytes of the JSON of an input or a result. A page is held in memory. */
const MAX_BYTES = 262_144
/** Stands for the hash of the kind's default answer, in JSON and in URLs. */
const DEFAULT = 'default'

const inputHash = (description: string) =>
  Type.String({ pattern: `^([0-9a-f]{64}|${DEFAULT})$`, description, examples: [DEFAULT] })

const answerSchema = Type.Object({
  kind: Type.String(),
  input_hash: inputHash(
    `SHA-256 of the canonical input in hex. \`${DEFAULT}\`: the answer for inputs without their own.`,
  ),
  input: Type.Unknown({ description: 'null for the default answer.' }),
  result: Type.Unknown(),
  updated_at: timestamp,
})

const answerJson = (row: PrecomputedRow) => ({
  kind: row.kind,
  input_hash: hashJson(row.input_hash),
  input: row.input,
  result: row.result,
  updated_at: row.updated_at.toISOString(),
})

const hashJson = (hash: Buffer) => (hash.length === 0 ? DEFAULT : hash.toString('hex'))
const hashOf = (text: string) => (text === DEFAULT ? ANY_INPUT : Buffer.from(text, 'hex'))

/** `/api/v1/precomputed/{kind}`: answers for when no model answers. One path per kind, because each kind has its own input schema. */
export const precomputed: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, jobs }) => {
  // A kind with a result for "no verdict" must not get a precomputed one instead.
  const kinds = [...jobs.values()].filter(job => job.resultWithoutVerdict === null)
  for (const job of kinds) {
    const path = `/api/v1/precomputed/${job.kind}`
    app.put<{ Body: Body }>(
      path,
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['precomputed'],
          operationId: `put_precomputed_${job.kind}`,
          summary: `Store a precomputed answer: ${job.title}`,
          description:
            'Stores the answer for one input, or the default answer if `input` is absent. Replaces the earlier answer. Tasks get it with `source: precomputed` when no model answers, if their `fallback` allows it and the cache has no stale answer. The default is skipped for a task whose input it does not fit.',
          body: Type.Object(
            { input: Type.Optional(job.input), result: job.result },
            {
              additionalProperties: false,
              required: ['result'],
              examples: [{ input: job.example.input, result: job.exampleResult }, { result: job.exampleResult }],
            },
          ),
          response: { 200: answerSchema },
        },
      },
      async ({ body }) => {
        await checkBody(job, body)
        return answerJson(await putPrecomputed(db, job.kind, body))
      },
    )

    app.get<{ Querystring: { after?: string; limit: number } }>(
      path,
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['precomputed'],
          operationId: `list_precomputed_${job.kind}`,
          summary: `List the precomputed answers: ${job.title}`,
          querystring: Type.Object(pageQuery({ cursor: inputHash(''), max: 50 }), {
            additionalProperties: false,
            required: [],
          }),
          response: { 200: pageSchema(answerSchema) },
        },
      },
      async ({ query: { after, limit } }) => {
        const rows = await listPrecomputed(db, job.kind, {
          after: after === undefined ? null : hashOf(after),
          limit: limit + 1,
        })
        return pageJson(rows, limit, { json: answerJson, cursor: row => hashJson(row.input_hash) })
      },
    )

    app.delete<{ Querystring: { input_hash?: string } }>(
      path,
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['precomputed'],
          operationId: `delete_precomputed_${job.kind}`,
          summary: `Delete one or all precomputed answers: ${job.title}`,
          querystring: Type.Object(
            { input_hash: Type.Optional(inputHash('Delete only this answer.')) },
            { additionalProperties: false },
          ),
          response: {
            200: Type.Object({ deleted: Type.Integer({ minimum: 0, description: 'The number of deleted answers.' }) }),
          },
        },
      },
      async ({ query: { input_hash } }) => ({
        deleted: await deletePrecomputed(db, job.kind, input_hash === undefined ? null : hashOf(input_hash)),
      }),
    )
  }

  app.route<{ Params: { kind: string } }>({
    method: ['PUT', 'GET', 'DELETE'],
    url: '/api/v1/precomputed/:kind',
    config: { scope: 'admin' },
    schema: { hide: true, params: Type.Object({ kind: Type.String() }) },
    handler: async request => {
      throw new SluiceError('unknown_kind', `There is no kind "${request.params.kind.slice(0, 100)}".`, {
        context: { field: 'kind', kinds: kinds.map(job => job.kind) },
      })
    },
  })
}

type Body = { input?: unknown; result: unknown }

/** The passages of a collection change, so that no answer can be stored for a search. */
const NO_LOOKUP: InputContext = {
  policy: async () => null,
  passages: async () => ({ wrong: 'is searched again for each task; store an answer for its contexts instead' }),
  runsQueries: false,
}

/** Checks what the schema cannot express. */
async function checkBody(job: JobKind, body: Body): Promise<void> {
  for (const field of ['input', 'result'] as const) {
    assertDepth(body[field], `/${field}`)
    assertSize(body[field], `/${field}`, MAX_BYTES)
  }
  assertStorable(body)
  if (body.input !== undefined) {
    assertInput(job, body.input)
    await prepareInput(job, body.input, NO_LOOKUP)
  }
  // The inputs of a default answer are not known yet.
  if (body.input === undefined ? body.result !== null : await resultFits(job, body.input, body.result)) return
  throw invalidField('/result', `must be a result of the kind ${job.kind} for this input`)
}

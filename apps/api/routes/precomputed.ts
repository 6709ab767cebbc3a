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
import type { JobKind, Lookup } from '#shared/jobs/define.ts'
import { suits } from '#shared/jobs/suits.ts'
import { findUnstorable, isTooDeep, MAX_DEPTH } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'

/** Bytes of JSON of an input or a result; what is listed is read into memory at once. */
const MAX_BYTES = 262_144
/** The hash of the kind's default, as it is spelled in JSON and in a URL. */
const DEFAULT = 'default'

const inputHash = (description: string) =>
  Type.String({ pattern: `^([0-9a-f]{64}|${DEFAULT})$`, description, examples: [DEFAULT] })

const answerSchema = Type.Object({
  kind: Type.String(),
  input_hash: inputHash(
    `SHA-256 of the canonical input in hex; \`${DEFAULT}\`: of whatever input has none of its own.`,
  ),
  input: Type.Unknown({ description: 'null for the default.' }),
  result: Type.Unknown(),
  updated_at: Type.String({ format: 'date-time' }),
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

/** `/api/v1/precomputed/{kind}`: what is answered when no model does. One path a kind, as its inputs have its schema. */
export const precomputed: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db, jobs }) => {
  // Where no verdict has a meaning of its own, nothing may stand in for one.
  const kinds = [...jobs.values()].filter(job => job.noVerdict === null)
  for (const job of kinds) {
    const path = `/api/v1/precomputed/${job.kind}`
    app.put<{ Body: Body }>(
      path,
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['precomputed'],
          operationId: `put_precomputed_${job.kind}`,
          summary: `Write down what to answer when no model does: ${job.title}`,
          description:
            'For one input, or without `input` for whatever input has no answer of its own; in the place of the one before. Tasks get it with `source: precomputed`, if their `fallback` allows it and no stale answer is remembered. The default is passed over where it does not suit a task’s input.',
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
          querystring: Type.Object(
            {
              after: Type.Optional(inputHash('`next` of the page before')),
              limit: Type.Integer({ minimum: 1, maximum: 50, default: 20 }),
            },
            { additionalProperties: false, required: [] },
          ),
          response: {
            200: Type.Object({
              data: Type.Array(answerSchema),
              has_more: Type.Boolean(),
              next: Type.Union([Type.String(), Type.Null()], { description: 'Give it as `after` for the next page.' }),
            }),
          },
        },
      },
      async ({ query: { after, limit } }) => {
        const rows = await listPrecomputed(db, job.kind, {
          after: after === undefined ? null : hashOf(after),
          limit: limit + 1,
        })
        const page = rows.slice(0, limit)
        const hasMore = rows.length > limit
        return {
          data: page.map(answerJson),
          has_more: hasMore,
          next: hasMore ? hashJson(page.at(-1)!.input_hash) : null,
        }
      },
    )

    app.delete<{ Querystring: { input_hash?: string } }>(
      path,
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['precomputed'],
          operationId: `delete_precomputed_${job.kind}`,
          summary: `Delete the precomputed answers, all or one: ${job.title}`,
          querystring: Type.Object(
            { input_hash: Type.Optional(inputHash('Only this one.')) },
            { additionalProperties: false },
          ),
          response: {
            200: Type.Object({ deleted: Type.Integer({ minimum: 0, description: 'How many there were.' }) }),
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

/** What is found is another thing from one day to the next: no answer can be written down for it. */
const NOTHING_THERE: Lookup = {
  policy: async () => null,
  passages: async () => ({ wrong: 'is looked up anew for each task; write down an answer to its contexts' }),
  runsQueries: false,
}

/** What the route's schema cannot say. */
async function checkBody(job: JobKind, body: Body): Promise<void> {
  for (const field of ['input', 'result'] as const) {
    const context = { field: `/${field}` }
    if (isTooDeep(body[field]))
      throw new SluiceError('invalid_request', `/${field} is nested deeper than ${MAX_DEPTH} levels`, { context })
    if (Buffer.byteLength(JSON.stringify(body[field]) ?? '') > MAX_BYTES)
      throw new SluiceError('field_too_large', undefined, { context: { ...context, limit_bytes: MAX_BYTES } })
  }
  const unstorable = findUnstorable(body)
  if (unstorable !== null) throw new SluiceError('invalid_text', undefined, { context: { field: unstorable } })
  const wrong = body.input === undefined ? null : job.validate(body.input)
  if (wrong) {
    const code = wrong.tooLarge ? 'field_too_large' : 'invalid_request'
    throw new SluiceError(code, `${wrong.field} ${wrong.message}`, { context: { field: wrong.field } })
  }
  const prepared = body.input === undefined ? null : await job.prepare(body.input, NOTHING_THERE)
  if (prepared && 'complaint' in prepared) {
    const { field, message } = prepared.complaint
    throw new SluiceError('invalid_request', `${field} ${message}`, { context: { field } })
  }
  // Of the default nobody knows yet what inputs it will be for.
  if (body.input === undefined ? body.result !== null : await suits(job, body.input, body.result)) return
  throw new SluiceError('invalid_request', '/result is not what this kind answers to the input', {
    context: { field: '/result' },
  })
}

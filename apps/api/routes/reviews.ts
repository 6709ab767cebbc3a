import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { decideReview, listReviews, type Review } from '#shared/db/reviews.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'

const params = Type.Object({
  id: Type.String({ description: 'Task id, `task_…`', examples: ['task_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
})
const moment = Type.String({ format: 'date-time' })
const decision = Type.Enum(['allow', 'block'])

const reviewSchema = Type.Object({
  task_id: Type.String(),
  kind: Type.String(),
  key_id: Type.String({ description: 'Whose task it is.' }),
  input: Type.Unknown(),
  result: Type.Unknown({ description: 'What there is of a verdict.' }),
  metadata: Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]),
  created_at: moment,
  decision: Type.Union([decision, Type.Null()], { description: 'null: it waits.' }),
  history: Type.Array(
    Type.Object({
      decision,
      note: Type.Union([Type.String(), Type.Null()]),
      decided_by: Type.String({ description: 'Id of the key.' }),
      decided_at: moment,
    }),
    { description: 'Every decision, oldest first.' },
  ),
})

const reviewJson = (row: Review) => ({
  task_id: toWire('task', row.task_id),
  kind: row.kind,
  key_id: toWire('key', row.api_key_id),
  input: row.input,
  result: row.result,
  metadata: row.metadata,
  created_at: row.created_at.toISOString(),
  decision: row.decision,
  history: row.history.map(one => ({
    ...one,
    decided_by: toWire('key', one.decided_by),
    decided_at: new Date(one.decided_at).toISOString(),
  })),
})

/** `/api/v1/reviews`: what moderation left to people. */
export const reviews: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  app.get(
    '/api/v1/reviews',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'List what waits for a person, or was decided by one',
        description: 'What waits longest comes first; of what is decided the newest.',
        querystring: Type.Object(
          {
            status: Type.Enum(['pending', 'decided'], { default: 'pending' }),
            after: Type.Optional(Type.String({ description: '`next` of the page before' })),
            limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
          },
          { additionalProperties: false, required: [] },
        ),
        response: {
          200: Type.Object({
            data: Type.Array(reviewSchema),
            has_more: Type.Boolean(),
            next: Type.Union([Type.String(), Type.Null()]),
          }),
        },
      },
    },
    async ({ query: { status, after, limit } }) => {
      const afterId = after === undefined ? null : fromWire('task', after)
      if (after !== undefined && afterId === null) {
        throw new SluiceError('invalid_request', '/after is not a task id', {
          context: { field: '/after', in: 'querystring' },
        })
      }
      const rows = await listReviews(db, { status, after: afterId, limit: limit + 1 })
      const page = rows.slice(0, limit)
      const hasMore = rows.length > limit
      return {
        data: page.map(reviewJson),
        has_more: hasMore,
        next: hasMore ? toWire('task', page.at(-1)!.task_id) : null,
      }
    },
  )

  app.post(
    '/api/v1/reviews/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'Decide what moderation left open',
        description:
          'Written down with who decided and when; a later decision takes its place and leaves it in the history. The task itself stays as it ended. 409 while it is judged again, and once it has a verdict.',
        params,
        body: Type.Object(
          { decision, note: Type.Optional(Type.String({ maxLength: 2000 })) },
          { additionalProperties: false, examples: [{ decision: 'allow', note: 'Satire' }] },
        ),
        response: { 200: reviewSchema },
      },
    },
    async ({ params: { id }, body, apiKey }) => {
      if (findUnstorable(body) !== null)
        throw new SluiceError('invalid_text', undefined, { context: { field: '/note' } })
      const taskId = fromWire('task', id)
      const { decision, note = null } = body
      const outcome = taskId === null ? null : await decideReview(db, { taskId, by: apiKey.id, decision, note })
      if (outcome?.kind !== 'decided') {
        const code = outcome?.kind === 'not_open' ? 'review_not_open' : 'review_not_found'
        throw new SluiceError(code, undefined, { context: { task_id: id } })
      }
      return reviewJson(outcome.review)
    },
  )
}

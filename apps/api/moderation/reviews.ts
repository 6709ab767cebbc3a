import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { decideReview, listReviews, type Review } from '#shared/db/reviews.ts'
import { SluiceError } from '#shared/errors.ts'
import { fromWire, toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { pageJson, pageQuery, pageSchema, readCursor } from '../http/pagination.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'

const params = Type.Object({
  id: Type.String({ description: 'Task id, `task_…`', examples: ['task_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
})
const decision = Type.Enum(['allow', 'block'])

const reviewSchema = Type.Object({
  task_id: Type.String(),
  kind: Type.String(),
  key_id: Type.String({ description: 'The key that submitted the task.' }),
  input: Type.Unknown(),
  result: Type.Unknown({ description: 'The verdict, which may be incomplete.' }),
  metadata: nullable(Type.Record(Type.String(), Type.Unknown())),
  created_at: timestamp,
  decision: nullable(decision, { description: 'null: pending.' }),
  history: Type.Array(
    Type.Object({
      decision,
      note: nullable(Type.String()),
      decided_by: Type.String({ description: 'The key that decided.' }),
      decided_at: timestamp,
    }),
    { description: 'All decisions, oldest first.' },
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

/** `/api/v1/reviews`: tasks that moderation left to a human decision. */
export const reviews: FastifyPluginAsyncTypebox<ApiDeps> = async (app, { db }) => {
  app.get(
    '/api/v1/reviews',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'List reviews',
        description:
          'Lists tasks that moderation left to a human decision. Pending reviews are listed oldest first, decided ones newest first.',
        querystring: Type.Object(
          {
            status: Type.Enum(['pending', 'decided'], { default: 'pending' }),
            ...pageQuery(),
          },
          { additionalProperties: false, required: [] },
        ),
        response: { 200: pageSchema(reviewSchema) },
      },
    },
    async request => {
      const { status, after, limit } = request.query
      const afterId = await readCursor(db, request, after, { kind: 'review' })
      const rows = await listReviews(db, { status, after: afterId, limit: limit + 1 })
      return pageJson(rows, limit, { json: reviewJson, cursor: row => toWire('task', row.task_id) })
    },
  )

  app.post(
    '/api/v1/reviews/:id',
    {
      config: { scope: 'admin' },
      schema: {
        tags: ['moderation'],
        summary: 'Decide a review',
        description:
          'Records the decision with the key and the time. A later decision replaces it and keeps it in `history`. The task itself does not change. 409 if the task is being moderated again, or has a verdict.',
        params,
        body: Type.Object(
          { decision, note: Type.Optional(Type.String({ maxLength: 2000 })) },
          { additionalProperties: false, examples: [{ decision: 'allow', note: 'Satire' }] },
        ),
        response: { 200: reviewSchema },
      },
    },
    async ({ params: { id }, body, apiKey }) => {
      assertStorable(body)
      const taskId = fromWire('task', id)
      const { decision, note = null } = body
      const outcome = taskId === null ? null : await decideReview(db, { taskId, by: apiKey.id, decision, note })
      if (outcome?.kind !== 'decided') {
        const code = outcome?.kind === 'not_open' ? 'review_not_open' : 'review_not_found'
        const detail = code === 'review_not_found' ? `There is no review of a task "${id.slice(0, 100)}".` : undefined
        throw new SluiceError(code, detail, { context: { field: '/id', task_id: id } })
      }
      return reviewJson(outcome.review)
    },
  )
}

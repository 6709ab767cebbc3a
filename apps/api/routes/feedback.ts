import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { type Feedback, putFeedback, readFeedback } from '#shared/db/feedback.ts'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import { findUnstorable } from '#shared/text.ts'
import type { ApiDeps } from '../deps.ts'
import { ownTask } from './tasks.ts'

const params = Type.Object({
  id: Type.String({ description: 'Task id, `task_…`', examples: ['task_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
})
const score = Type.Integer({ minimum: 1, maximum: 5, description: '5 is best.' })

const feedbackSchema = Type.Object({
  task_id: Type.String(),
  score,
  note: Type.Union([Type.String(), Type.Null()]),
  given_by: Type.String({ description: 'Id of the key.' }),
  at: Type.String({ format: 'date-time' }),
})

const feedbackJson = (row: Feedback) => ({
  task_id: toWire('task', row.task_id),
  score: row.score,
  note: row.note,
  given_by: toWire('key', row.given_by),
  at: row.at.toISOString(),
})

/** `/api/v1/tasks/{id}/feedback`: what was thought of a result. */
export const feedback: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  app.post(
    '/api/v1/tasks/:id/feedback',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['experiments'],
        summary: 'Rate a task',
        description: 'In the place of what was said before.',
        params,
        body: Type.Object(
          { score, note: Type.Optional(Type.String({ maxLength: 2000 })) },
          { additionalProperties: false, examples: [{ score: 4, note: 'The second title was used' }] },
        ),
        response: { 200: feedbackSchema },
      },
    },
    async request => {
      const { body, apiKey } = request
      if (findUnstorable(body) !== null)
        throw new SluiceError('invalid_text', undefined, { context: { field: '/note' } })
      const { id } = await ownTask(deps, request)
      return feedbackJson(
        await putFeedback(deps.db, { task_id: id, score: body.score, note: body.note ?? null, given_by: apiKey.id }),
      )
    },
  )

  app.get(
    '/api/v1/tasks/:id/feedback',
    {
      config: { scope: 'read' },
      schema: {
        tags: ['experiments'],
        summary: 'Read how a task was rated',
        params,
        response: { 200: feedbackSchema },
      },
    },
    async request => {
      const row = await readFeedback(deps.db, (await ownTask(deps, request)).id)
      if (!row) throw new SluiceError('feedback_not_found', undefined, { context: { task_id: request.params.id } })
      return feedbackJson(row)
    },
  )
}

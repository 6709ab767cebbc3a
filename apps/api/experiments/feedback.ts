import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { type Feedback, putFeedback, readFeedback } from '#shared/db/feedback.ts'
import { SluiceError } from '#shared/errors.ts'
import { toWire } from '#shared/ids.ts'
import type { ApiDeps } from '../deps.ts'
import { nullable, timestamp } from '../http/schemas.ts'
import { assertStorable } from '../http/stored-values.ts'
import { ownTask } from '../tasks/routes.ts'

const params = Type.Object({
  id: Type.String({ description: 'Task id, `task_…`', examples: ['task_019a9f0c5d7e7cc2a1b2c3d4e5f60718'] }),
})
const score = Type.Integer({ minimum: 1, maximum: 5, description: '5 is the best.' })

const feedbackSchema = Type.Object({
  task_id: Type.String(),
  score,
  note: nullable(Type.String()),
  given_by: Type.String({ description: 'The key that gave the feedback.' }),
  at: timestamp,
})

const feedbackJson = (row: Feedback) => ({
  task_id: toWire('task', row.task_id),
  score: row.score,
  note: row.note,
  given_by: toWire('key', row.given_by),
  at: row.at.toISOString(),
})

/** `/api/v1/tasks/{id}/feedback`: ratings of results. */
export const feedback: FastifyPluginAsyncTypebox<ApiDeps> = async (app, deps) => {
  app.post(
    '/api/v1/tasks/:id/feedback',
    {
      config: { scope: 'submit' },
      schema: {
        tags: ['experiments'],
        summary: 'Rate a task',
        description: 'Replaces earlier feedback.',
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
      assertStorable(body)
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
        summary: 'Read the feedback on a task',
        params,
        response: { 200: feedbackSchema },
      },
    },
    async request => {
      const row = await readFeedback(deps.db, (await ownTask(deps, request)).id)
      if (!row)
        throw new SluiceError('feedback_not_found', `The task "${request.params.id}" has no feedback.`, {
          context: { field: '/id', task_id: request.params.id },
        })
      return feedbackJson(row)
    },
  )
}

import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { v7 } from 'uuid'
import { mustBeStorable, pageOf, paging, text } from '../../client-app/fields.ts'
import type { Metrics } from '../metrics.ts'
import type { Moderation } from '../moderation.ts'
import type { Comment, Store } from '../store.ts'
import type { Status } from '../verdict.ts'

export type CommentsDeps = { store: Store; moderation: Moderation; metrics: Metrics }

const newComment = Type.Object(
  { post_id: text(200), author: text(100), text: text(10_000) },
  { additionalProperties: false },
)

const list = Type.Object({ post_id: text(200), ...paging }, { additionalProperties: false, required: ['post_id'] })

const commentJson = ({ id, postId, author, text, createdAt }: Comment) => ({
  id,
  post_id: postId,
  author,
  text,
  created_at: createdAt.toISOString(),
})

const CODES: Record<Status, number> = { visible: 201, held: 202, blocked: 422 }

export const comments: FastifyPluginAsyncTypebox<CommentsDeps> = async (app, { store, moderation, metrics }) => {
  app.post('/api/comments', { schema: { body: newComment } }, async ({ body }, reply) => {
    mustBeStorable(body)
    const comment = { id: v7(), postId: body.post_id, author: body.author, text: body.text }
    const began = performance.now()
    const outcome = await moderation.judge(comment)
    const { status, verdict } = outcome
    metrics.moderationSeconds.observe({ status }, (performance.now() - began) / 1000)
    const stored = await store.insert(comment, outcome)
    metrics.comments.inc({ status })
    reply.code(CODES[status])
    if (status !== 'blocked') return { ...commentJson(stored), status }
    return {
      code: 'blocked',
      message: 'This comment cannot be published.',
      violations: verdict?.violations ?? [],
      reason: verdict?.reason ?? null,
    }
  })

  app.get('/api/comments', { schema: { querystring: list } }, async ({ query: { post_id, after, limit } }) => {
    mustBeStorable({ post_id })
    const found = await store.visible(post_id, { after: after ?? null, limit: limit + 1 })
    return pageOf(found, limit, commentJson)
  })
}

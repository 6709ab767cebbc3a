import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { v7 } from 'uuid'
import type { CommentsDeps } from '../deps.ts'
import { RequestError } from '../errors.ts'
import type { Comment } from '../store.ts'
import type { Status } from '../verdict.ts'

/** Postgres stores neither U+0000 nor half a surrogate pair. */
const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed()

const line = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '\\S' })

const newComment = Type.Object(
  { post_id: line(200), author: line(100), text: line(10_000) },
  { additionalProperties: false },
)

const list = Type.Object(
  {
    post_id: line(200),
    after: Type.Optional(Type.String({ format: 'uuid', description: '`next` of the page before' })),
    limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
  },
  { additionalProperties: false, required: ['post_id'] },
)

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
    for (const [field, value] of Object.entries(body)) {
      if (!isStorable(value))
        throw new RequestError(400, 'invalid_text', `${field} holds characters that are none`, field)
    }
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
    if (!isStorable(post_id))
      throw new RequestError(400, 'invalid_text', 'post_id holds characters that are none', 'post_id')
    const found = await store.visible(post_id, { after: after ?? null, limit: limit + 1 })
    const page = found.slice(0, limit)
    const hasMore = found.length > limit
    return { data: page.map(commentJson), has_more: hasMore, next: hasMore ? page.at(-1)!.id : null }
  })
}

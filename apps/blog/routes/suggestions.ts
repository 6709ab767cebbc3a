import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { mustBeStorable, oneLine, pageOf, paging } from '../../client-app/fields.ts'
import { HttpError } from '../../client-app/http-error.ts'
import type { Store, Suggestion } from '../store.ts'
import { poorest, type Suggest } from '../suggest.ts'

const newSuggestions = Type.Object(
  {
    author: oneLine(200),
    interests: Type.Array(oneLine(80), { minItems: 1, maxItems: 20 }),
    past_topics: Type.Array(oneLine(200), { maxItems: 100, default: [] }),
    count: Type.Integer({ minimum: 1, maximum: 10, default: 5 }),
    audience: Type.Optional(oneLine(200)),
  },
  { additionalProperties: false, required: ['author', 'interests'] },
)

const list = Type.Object({ author: oneLine(200), ...paging }, { additionalProperties: false, required: ['author'] })

const suggestionJson = ({ id, title, angle, source, quality, createdAt }: Suggestion) => ({
  id,
  title,
  angle,
  source,
  quality,
  created_at: createdAt.toISOString(),
})

export const suggestions: FastifyPluginAsyncTypebox<{ store: Store; suggest: Suggest }> = async (
  app,
  { store, suggest },
) => {
  app.post('/api/suggestions', { schema: { body: newSuggestions } }, async ({ body }) => {
    mustBeStorable(body)
    const { author, interests, past_topics: past, count, audience } = body
    const [first, ...more] = await suggest({ author, interests, past, count, audience })
    if (!first) throw new HttpError(503, 'no_new_topics', 'Every topic that was found has been suggested before.')
    const { source, quality } = poorest([first, ...more])
    return { topics: [first, ...more].map(suggestionJson), source, quality }
  })

  app.get('/api/suggestions', { schema: { querystring: list } }, async ({ query: { author, after, limit } }) => {
    mustBeStorable({ author })
    return pageOf(await store.of(author, { after: after ?? null, limit: limit + 1 }), limit, suggestionJson)
  })
}

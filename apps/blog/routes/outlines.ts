import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from 'typebox'
import { mustBeStorable, oneLine } from '../../client-app/fields.ts'
import type { Ask } from '../answers.ts'

const newOutline = Type.Object(
  {
    topic: oneLine(200),
    audience: Type.Optional(oneLine(200)),
    length: Type.Enum(['short', 'medium', 'long'], { default: 'medium' }),
    points: Type.Array(oneLine(200), { maxItems: 10, default: [] }),
    author: Type.Optional(oneLine(200)),
  },
  { additionalProperties: false, required: ['topic'] },
)

type Outline = { title: string; sections: { heading: string; points: string[] }[] }

export const outlines: FastifyPluginAsyncTypebox<{ ask: Ask }> = async (app, { ask }) => {
  app.post('/api/outlines', { schema: { body: newOutline } }, async ({ body }) => {
    mustBeStorable(body)
    const { author, ...input } = body
    const { result, source, quality } = await ask<Outline>('blog-outline', input, author)
    return { outline: result, source, quality }
  })
}

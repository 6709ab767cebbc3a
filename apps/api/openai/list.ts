import { type TSchema, Type } from 'typebox'
import { nullable } from '../http/schemas.ts'

/** Lists as OpenAI's API returns them. @param id schema of the ids */
export const listSchema = <T extends TSchema>(row: T, id = Type.String()) =>
  Type.Object({
    object: Type.Literal('list'),
    data: Type.Array(row),
    first_id: nullable(id),
    last_id: nullable(id),
    has_more: Type.Boolean(),
  })

export const listJson = <Json extends { id: string }>(data: Json[], hasMore: boolean) => ({
  object: 'list' as const,
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: hasMore,
})

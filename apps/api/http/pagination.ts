import type { FastifyRequest } from 'fastify'
import { type TSchema, Type } from 'typebox'
import { type CursorKind, isCursor } from '#shared/db/cursors.ts'
import type { Db } from '#shared/db/pool.ts'
import { fromWire } from '#shared/ids.ts'
import { isAdmin } from './auth.ts'
import { invalidQuery } from './invalid-field.ts'
import { nullable } from './schemas.ts'

/** Lists are read page by page: `after` is the cursor, and the page before names it. */

/** The field of a page that holds the cursor of the next one: ours, or OpenAI's. */
type CursorField = 'next' | 'last_id'

/** The query parameters of a list. */
export const pageQuery = ({
  cursor = Type.String(),
  from = 'next',
  max = 100,
}: {
  cursor?: ReturnType<typeof Type.String>
  from?: CursorField
  max?: number
} = {}) => ({
  after: Type.Optional({ ...cursor, description: `\`${from}\` of the previous page.` }),
  limit: Type.Integer({ minimum: 1, maximum: max, default: 20 }),
})

export const pageSchema = <T extends TSchema>(row: T) =>
  Type.Object({
    data: Type.Array(row),
    has_more: Type.Boolean(),
    next: nullable(Type.String(), { description: 'Pass it as `after` to read the next page.' }),
  })

/** @param rows one more than `limit` if there is another page */
export function pageJson<Row, Json>(
  rows: Row[],
  limit: number,
  { json, cursor }: { json: (row: Row) => Json; cursor: (row: Row) => string },
) {
  const page = rows.slice(0, limit)
  const hasMore = rows.length > limit
  return { data: page.map(json), has_more: hasMore, next: hasMore ? cursor(page.at(-1)!) : null }
}

/** The key whose rows a request may list or change; null: those of all keys (an admin key). */
export const ownerFilter = ({ apiKey }: Pick<FastifyRequest, 'apiKey'>): string | null =>
  isAdmin(apiKey) ? null : apiKey.id

/**
 * The row after which a page begins; null: the first page. An unknown cursor is an error, because the page after it would look
 * like the first page or like the end of the list.
 * @throws SluiceError invalid_request
 */
export async function readCursor(
  db: Db,
  request: Pick<FastifyRequest, 'apiKey'>,
  after: string | undefined,
  { kind, from = 'next' }: { kind: CursorKind; from?: CursorField },
): Promise<string | null> {
  if (after === undefined) return null
  const prefix = kind === 'review' ? 'task' : kind
  const id = fromWire(prefix, after)
  if (id !== null && (await isCursor(db, kind, id, ownerFilter(request)))) return id
  throw unknownCursor(NAMES[kind], after, from)
}

const NAMES: Record<CursorKind, string> = { task: 'task', batch: 'batch', evt: 'delivery', review: 'review' }

export const unknownCursor = (name: string, after: string, from: CursorField) =>
  invalidQuery(
    'after',
    `names no ${name} in this list: ${JSON.stringify(after.slice(0, 100))}; pass \`${from}\` of the previous page`,
  )

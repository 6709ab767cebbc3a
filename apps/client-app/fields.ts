import { Type } from 'typebox'
import { HttpError } from './http-error.ts'

/** Fields of requests, each with what is said of one that does not fit. */

const NOT_BLANK = '\\S'
const ONE_LINE = '^[^\\r\\n]*\\S[^\\r\\n]*$'

export const PATTERNS: Record<string, string> = {
  [NOT_BLANK]: 'must not be blank',
  [ONE_LINE]: 'must be one line that is not blank',
}

export const text = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: NOT_BLANK })
export const oneLine = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: ONE_LINE })

/** Of a list that goes on after the last one of the page before. */
export const paging = {
  after: Type.Optional(Type.String({ format: 'uuid', description: '`next` of the page before' })),
  limit: Type.Integer({ minimum: 1, maximum: 100, default: 20 }),
}

/** @param found as many as the page holds and, if there are more, one of them */
export function pageOf<T extends { id: string }, J>(found: T[], limit: number, toJson: (one: T) => J) {
  const page = found.slice(0, limit)
  const hasMore = found.length > limit
  return { data: page.map(toJson), has_more: hasMore, next: hasMore ? page.at(-1)!.id : null }
}

/** Postgres stores neither U+0000 nor half a surrogate pair. @throws HttpError that names the first field with one */
export function mustBeStorable(fields: object): void {
  for (const [field, value] of Object.entries(fields)) {
    const texts = [value].flat().filter(one => typeof one === 'string')
    if (texts.some(one => one.includes('\0') || !one.isWellFormed()))
      throw new HttpError(400, 'invalid_text', `${field} holds characters that are none`, field)
  }
}

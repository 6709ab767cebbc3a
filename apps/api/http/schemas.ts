import { type TSchema, Type } from 'typebox'

/** Shapes that many routes share. */

export const nullable = <T extends TSchema>(schema: T, options: { description?: string } = {}) =>
  Type.Union([schema, Type.Null()], options)

/** ISO 8601, UTC. */
export const timestamp = Type.String({ format: 'date-time' })

export const unixTime = Type.Integer({ description: 'Unix time in seconds.' })
export const toUnixTime = (date: Date): number => Math.floor(date.getTime() / 1000)

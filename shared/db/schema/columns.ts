import { customType, numeric, timestamp } from 'drizzle-orm/pg-core'

/** Dollars, exact to the picodollar. */
export const usd = (name: string) => numeric(name, { precision: 24, scale: 12 })
export const timestamptz = (name: string) => timestamp(name, { withTimezone: true, mode: 'date' })
export const tsvector = customType<{ data: string }>({ dataType: () => 'tsvector' })
export const bytea = customType<{ data: Buffer }>({ dataType: () => 'bytea' })

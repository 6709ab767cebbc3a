import { pgTable, text } from 'drizzle-orm/pg-core'
import { bytea } from './columns.ts'

/** Random bytes shared by all processes, by purpose. */
export const secrets = pgTable('secrets', { name: text('name').primaryKey(), value: bytea('value').notNull() })

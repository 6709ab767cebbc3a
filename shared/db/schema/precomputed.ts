import { json, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { bytea, timestamptz } from './columns.ts'

/** Answers stored by the operator for tasks that no model answers. */
export const precomputed = pgTable(
  'precomputed',
  {
    kind: text('kind').notNull(),
    /** SHA-256 of the canonical input; empty: any input of the kind. */
    inputHash: bytea('input_hash').notNull(),
    input: json('input'),
    result: json('result').notNull(),
    updatedAt: timestamptz('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.kind, table.inputHash] })],
)

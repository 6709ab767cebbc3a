import { sql } from 'drizzle-orm'
import { bigserial, check, index, integer, json, pgTable, text, uuid } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'

/** Moderation policies: thresholds for blocking and for human review. */
export const policies = pgTable('policies', {
  name: text('name').primaryKey(),
  /** Incremented by each change. */
  version: integer('version').notNull().default(1),
  rules: json('rules').notNull(),
  updatedAt: timestamptz('updated_at').notNull().defaultNow(),
})

/** Tasks for human review. */
export const reviews = pgTable(
  'reviews',
  {
    taskId: uuid('task_id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    createdAt: timestamptz('created_at').notNull(),
    /** allow | block; null: pending. */
    decision: text('decision'),
  },
  table => [
    check('reviews_decision', sql`decision IN ('allow', 'block')`),
    index('reviews_pending').on(table.taskId).where(sql`decision IS NULL`),
  ],
)

/** The history of human decisions, including replaced ones. */
export const reviewDecisions = pgTable(
  'review_decisions',
  {
    id: bigserial('id', { mode: 'number' }).primaryKey(),
    taskId: uuid('task_id').notNull(),
    decision: text('decision').notNull(),
    note: text('note'),
    /** The API key of the reviewer. */
    decidedBy: uuid('decided_by').notNull(),
    decidedAt: timestamptz('decided_at').notNull().defaultNow(),
  },
  table => [index('review_decisions_by_task').on(table.taskId, table.id)],
)

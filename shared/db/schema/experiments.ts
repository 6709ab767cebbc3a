import { sql } from 'drizzle-orm'
import { check, json, numeric, pgTable, primaryKey, smallint, text, uuid } from 'drizzle-orm/pg-core'
import { bytea, timestamptz } from './columns.ts'

/** Experiments: variants tried on the users of a kind. */
export const experiments = pgTable('experiments', {
  name: text('name').primaryKey(),
  /** A kind has at most one experiment, because two would mix their effects. */
  kind: text('kind').notNull().unique(),
  variants: json('variants').notNull(),
  createdAt: timestamptz('created_at').notNull().defaultNow(),
  updatedAt: timestamptz('updated_at').notNull().defaultNow(),
})

/** Users of an experiment that converted. Only the first conversion counts. */
export const conversions = pgTable(
  'conversions',
  {
    experiment: text('experiment').notNull(),
    /** A task's `user_hash`. */
    userKey: bytea('user_key').notNull(),
    /** The first variant that the user got. */
    variant: text('variant').notNull(),
    /** The task that led to the conversion, if the client named it. */
    taskId: uuid('task_id'),
    /** In a unit chosen by the client. */
    value: numeric('value'),
    at: timestamptz('at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.experiment, table.userKey] })],
)

/** The latest rating of a task's result. */
export const feedback = pgTable(
  'feedback',
  {
    taskId: uuid('task_id').primaryKey(),
    /** 1 to 5 */
    score: smallint('score').notNull(),
    note: text('note'),
    /** The API key that submitted the rating. */
    givenBy: uuid('given_by').notNull(),
    at: timestamptz('at').notNull().defaultNow(),
  },
  () => [check('feedback_score', sql`score BETWEEN 1 AND 5`)],
)

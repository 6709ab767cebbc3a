import { sql } from 'drizzle-orm'
import { index, pgTable, smallint, text, uuid } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'

/** Webhook events and the state of their delivery. */
export const webhookDeliveries = pgTable(
  'webhook_deliveries',
  {
    id: uuid('id').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    /** Such as batch.completed, task.succeeded. */
    type: text('type').notNull(),
    /** The task or batch that the event reports. */
    subjectId: uuid('subject_id').notNull(),
    url: text('url').notNull(),
    /** pending | delivered | failed */
    status: text('status').notNull().default('pending'),
    attempts: smallint('attempts').notNull().default(0),
    /** Time of the next attempt; during an attempt, the end of its lease. */
    nextAt: timestamptz('next_at').notNull().defaultNow(),
    /** HTTP status of the last response; null: none. */
    lastStatus: smallint('last_status'),
    lastError: text('last_error'),
    createdAt: timestamptz('created_at').notNull().defaultNow(),
    deliveredAt: timestamptz('delivered_at'),
  },
  table => [
    index('webhook_deliveries_due').on(table.nextAt).where(sql`status = 'pending'`),
    index('webhook_deliveries_by_key').on(table.apiKeyId, table.id),
    index('webhook_deliveries_by_subject').on(table.subjectId),
  ],
)

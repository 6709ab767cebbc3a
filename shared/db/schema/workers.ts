import { integer, json, pgTable, text, uuid } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'

/** Live worker processes and their heartbeats. */
export const workers = pgTable('workers', {
  id: uuid('id').primaryKey(),
  pid: integer('pid').notNull(),
  host: text('host').notNull(),
  queues: text('queues').array().notNull(),
  concurrency: integer('concurrency').notNull(),
  active: integer('active').notNull().default(0),
  metricsPort: integer('metrics_port'),
  /** {<provider>: ok | failing | unreachable}, from the worker's own calls. */
  providers: json('providers').notNull().default({}),
  startedAt: timestamptz('started_at').notNull().defaultNow(),
  beatAt: timestamptz('beat_at').notNull().defaultNow(),
  lastFetchAt: timestamptz('last_fetch_at'),
})

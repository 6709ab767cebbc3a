import { bigserial, json, pgTable, primaryKey, text } from 'drizzle-orm/pg-core'
import { timestamptz } from './columns.ts'

/** Rate limits that an operator set at run time. They override the settings. */
export const providerLimits = pgTable(
  'provider_limits',
  {
    provider: text('provider').notNull(),
    /** '': all models of the provider without a row of their own. */
    model: text('model').notNull(),
    /** {rpm, tpm, itpm, otpm, concurrency}; null: unlimited */
    limits: json('limits').notNull(),
    version: bigserial('version', { mode: 'number' }).notNull(),
    updatedAt: timestamptz('updated_at').notNull().defaultNow(),
  },
  table => [primaryKey({ columns: [table.provider, table.model] })],
)

/** Providers that an operator defined at run time. They replace those of the settings and of PROVIDERS_FILE. */
export const providers = pgTable('providers', {
  name: text('name').primaryKey(),
  /** As in the API; null: deleted. */
  definition: json('definition'),
  version: bigserial('version', { mode: 'number' }).notNull(),
  updatedAt: timestamptz('updated_at').notNull().defaultNow(),
})

/** Gates used in the last days (`opened_at`). A gate in this table that is missing in Redis has been lost. */
export const gates = pgTable(
  'gates',
  {
    provider: text('provider').notNull(),
    model: text('model').notNull(),
    openedAt: timestamptz('opened_at').notNull(),
  },
  table => [primaryKey({ columns: [table.provider, table.model] })],
)

import { sql } from 'drizzle-orm'
import { integer, pgTable, primaryKey, smallint, text, uuid } from 'drizzle-orm/pg-core'
import { bytea, timestamptz } from './columns.ts'

export const apiKeys = pgTable('api_keys', {
  id: uuid('id').primaryKey(),
  name: text('name').notNull(),
  /** SHA-256 of the secret. */
  secretHash: bytea('secret_hash').notNull().unique(),
  /** Last characters of the secret, by which an operator recognises the key. */
  hint: text('hint').notNull(),
  scopes: text('scopes').array().notNull(),
  /** null: no limit. */
  requestsPerMinute: integer('requests_per_minute'),
  /** Share of the workers when several keys have more tasks than can run. */
  weight: smallint('weight').notNull().default(1),
  /** Signs the key's webhooks. Stored in plain form because both sides need it. */
  webhookSecret: bytea('webhook_secret')
    .notNull()
    .default(sql`decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')`),
  createdAt: timestamptz('created_at').notNull().defaultNow(),
  revokedAt: timestamptz('revoked_at'),
})

/** Replaced webhook secrets that still sign beside the current one, so that receivers can switch. */
export const retiredWebhookSecrets = pgTable(
  'retired_webhook_secrets',
  {
    apiKeyId: uuid('api_key_id').notNull(),
    secret: bytea('secret').notNull(),
    retiredAt: timestamptz('retired_at').notNull().defaultNow(),
    signsUntil: timestamptz('signs_until').notNull(),
  },
  table => [primaryKey({ columns: [table.apiKeyId, table.secret] })],
)

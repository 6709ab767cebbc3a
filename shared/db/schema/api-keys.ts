import { sql } from 'drizzle-orm'
import { index, integer, json, pgTable, primaryKey, smallint, text, uuid } from 'drizzle-orm/pg-core'
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
  /** Providers that the key may use; null: all. */
  allowedProviders: text('allowed_providers').array(),
  /** Models that the key may use: names and patterns with `*`, see `mayUse`; null: all. */
  allowedModels: text('allowed_models').array(),
  /** Task options for requests that do not set them; null: none. */
  defaultOptions: json('default_options'),
  /** The key is refused from then on; null: never. */
  expiresAt: timestamptz('expires_at'),
  createdAt: timestamptz('created_at').notNull().defaultNow(),
  revokedAt: timestamptz('revoked_at'),
})

/** Replaced secrets of keys that are still accepted, so that applications can switch. */
export const retiredKeySecrets = pgTable(
  'retired_key_secrets',
  {
    /** SHA-256 of the secret. */
    secretHash: bytea('secret_hash').primaryKey(),
    apiKeyId: uuid('api_key_id').notNull(),
    hint: text('hint').notNull(),
    retiredAt: timestamptz('retired_at').notNull().defaultNow(),
    validUntil: timestamptz('valid_until').notNull(),
  },
  table => [index('retired_key_secrets_by_key').on(table.apiKeyId)],
)

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

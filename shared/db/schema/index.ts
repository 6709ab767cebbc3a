/**
 * The schema, from which drizzle-kit generates migrations (`npm run generate`).
 *
 * There are no foreign keys: each would cost a lookup per row in statements that carry hundreds, and only the statements in
 * `shared/db` write rows. Payloads are `json`, not `jsonb`: nothing queries into them.
 */
export * from './api-keys.ts'
export * from './attempts.ts'
export * from './batches.ts'
export * from './budgets.ts'
export * from './collections.ts'
export * from './experiments.ts'
export * from './files.ts'
export * from './moderation.ts'
export * from './precomputed.ts'
export * from './providers.ts'
export * from './secrets.ts'
export * from './tasks.ts'
export * from './webhooks.ts'
export * from './workers.ts'

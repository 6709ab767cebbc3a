/** The statuses that are reported; event types are `<subject>.<status>`. */
const REPORTED = {
  task: ['succeeded', 'failed', 'cancelled', 'expired'],
  batch: ['completed', 'failed', 'cancelled', 'expired'],
} as const
export type WebhookSubject = keyof typeof REPORTED
export const subjectOf = (type: string) => type.slice(0, type.indexOf('.')) as WebhookSubject

/** SQL: a new UUIDv7, made of a random v4 with the time and version bits replaced. Postgres has a function for it only since 18. */
const NEW_ID = `encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid`

/**
 * SQL that queues webhooks, as part of the statement that ends tasks or batches.
 * @param from name of a common table expression with `id`, `api_key_id`, `status` and `webhook_url` of the changed rows
 */
export const insertWebhooks = (subject: WebhookSubject, from: string): string =>
  `INSERT INTO webhook_deliveries (id, api_key_id, type, subject_id, url, next_at, created_at)
      SELECT ${NEW_ID}, api_key_id, '${subject}.' || status, id, webhook_url, now(), now() FROM ${from}
      WHERE webhook_url IS NOT NULL AND status IN (${REPORTED[subject].map(status => `'${status}'`).join(', ')})`

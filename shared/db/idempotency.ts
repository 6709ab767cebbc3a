import type { Db } from './pool.ts'

/** How long an Idempotency-Key is remembered. */
const RETENTION_HOURS = 24

/**
 * SQL that remembers Idempotency-Keys, and replaces expired ones.
 * @param select a SELECT of (api_key_id, key, id, request_hash), in this order; `id` is the task or batch
 * @returns an INSERT that returns the `task_id` of the keys that were free
 */
export const rememberIdempotencyKeys = (
  select: string,
): string => `INSERT INTO idempotency_keys AS r (api_key_id, key, task_id, request_hash, expires_at)
      SELECT i.*, now() + interval '${RETENTION_HOURS} hours' FROM (${select}) i
      ON CONFLICT (api_key_id, key) DO UPDATE
        SET task_id = excluded.task_id, request_hash = excluded.request_hash, expires_at = excluded.expires_at
        WHERE r.expires_at <= now()
      RETURNING task_id`

const findStatement = {
  name: 'idempotency_find',
  text: `SELECT task_id AS id, request_hash AS "requestHash" FROM idempotency_keys
    WHERE api_key_id = $1 AND key = $2 AND expires_at > now()`,
}

/** The task or batch that was created with an Idempotency-Key; null: none, or the key has expired. */
export const findByIdempotencyKey = async (
  db: Db,
  apiKeyId: string,
  key: string,
): Promise<{ id: string; requestHash: Buffer } | null> =>
  (await db.query<{ id: string; requestHash: Buffer }>(findStatement, [apiKeyId, key]))[0] ?? null

const PRUNED_AT_ONCE = 5000

/** Deletes expired Idempotency-Keys, at most PRUNED_AT_ONCE. @returns whether there may be more */
export async function pruneIdempotencyKeys(db: Db): Promise<boolean> {
  const deleted = await db.query({
    name: 'idempotency_prune',
    text: `DELETE FROM idempotency_keys WHERE (api_key_id, key) IN (
      SELECT api_key_id, key FROM idempotency_keys WHERE expires_at <= now() LIMIT ${PRUNED_AT_ONCE}) RETURNING 1`,
  })
  return deleted.length === PRUNED_AT_ONCE
}

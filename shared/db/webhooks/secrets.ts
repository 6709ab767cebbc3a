import { LOCK_KEY } from '../keys.ts'
import type { Db, Statement } from '../pool.ts'

/** `expires_at`: until then the secret signs beside the current one. */
export type RetiredSecret = { secret: Buffer; expires_at: Date }
/** `retired`: newest first. */
export type WebhookSecrets = { current: Buffer; retired: RetiredSecret[] }

/** Replaced secrets of one key that may still sign. Each adds a signature to every delivery. */
const MAX_RETIRED_SECRETS = 4

const readSecrets: Statement = {
  name: 'keys_webhook_secrets',
  text: `SELECT k.webhook_secret, r.secret, r.signs_until
    FROM api_keys k LEFT JOIN retired_webhook_secrets r ON r.api_key_id = k.id AND r.signs_until > now()
    WHERE k.id = $1 AND k.revoked_at IS NULL ORDER BY r.retired_at DESC`,
}
type SecretRow = { webhook_secret: Buffer; secret: Buffer | null; signs_until: Date | null }

const secretsOf = (rows: SecretRow[]): WebhookSecrets | null =>
  rows.length === 0
    ? null
    : {
        current: rows[0]!.webhook_secret,
        retired: rows.flatMap(({ secret, signs_until }) =>
          secret && signs_until ? [{ secret, expires_at: signs_until }] : [],
        ),
      }

/** The secrets that sign the webhooks of a key. @returns null: no such live key */
export const readWebhookSecrets = async (db: Db, id: string): Promise<WebhookSecrets | null> =>
  secretsOf(await db.query<SecretRow>(readSecrets, [id]))

/**
 * Replaces the secret. The old secret signs beside the new one for `overlapSeconds`, and secrets replaced earlier sign no longer than
 * that: 0 ends them all.
 * @returns null: no such live key
 */
export async function rotateWebhookSecret(db: Db, id: string, overlapSeconds: number): Promise<WebhookSecrets | null> {
  const results = await db.transaction<SecretRow[][]>([
    // Serialises the rotations of a key: the later one retires the secret of the earlier one.
    [LOCK_KEY, [id]],
    [
      {
        name: 'keys_retire_webhook_secret',
        text: `INSERT INTO retired_webhook_secrets (api_key_id, secret, signs_until)
          SELECT id, webhook_secret, now() + make_interval(secs => $2) FROM api_keys WHERE id = $1 AND revoked_at IS NULL`,
      },
      [id, overlapSeconds],
    ],
    [
      {
        name: 'keys_shorten_webhook_secrets',
        text: `UPDATE retired_webhook_secrets SET signs_until = least(signs_until, now() + make_interval(secs => $2))
          WHERE api_key_id = $1`,
      },
      [id, overlapSeconds],
    ],
    [
      {
        name: 'keys_drop_webhook_secrets',
        text: `DELETE FROM retired_webhook_secrets WHERE api_key_id = $1 AND (signs_until <= now() OR secret NOT IN (
          SELECT secret FROM retired_webhook_secrets WHERE api_key_id = $1
          ORDER BY retired_at DESC LIMIT ${MAX_RETIRED_SECRETS}))`,
      },
      [id],
    ],
    [
      {
        name: 'keys_rotate_webhook_secret',
        text: 'UPDATE api_keys SET webhook_secret = DEFAULT WHERE id = $1 AND revoked_at IS NULL',
      },
      [id],
    ],
    [readSecrets, [id]],
  ])
  return secretsOf(results.at(-1)!)
}

/** Deletes replaced secrets that no longer sign. */
export const pruneWebhookSecrets = async (db: Db): Promise<void> => {
  await db.query({
    name: 'keys_prune_webhook_secrets',
    text: 'DELETE FROM retired_webhook_secrets WHERE signs_until <= now()',
  })
}

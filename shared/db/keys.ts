import type { Db } from './pool.ts'

export const SCOPES = ['submit', 'read', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

export type ApiKey = {
  id: string
  name: string
  secret_hash: Buffer
  hint: string
  scopes: Scope[]
  requests_per_minute: number | null
  weight: number
  created_at: Date
}

const COLUMNS = 'id, name, secret_hash, hint, scopes, requests_per_minute, weight, created_at'

/** The live keys among these hashes. */
export const findKeys = (db: Db, hashes: Buffer[]): Promise<ApiKey[]> =>
  db.query<ApiKey>(
    {
      name: 'keys_find',
      text: `SELECT ${COLUMNS} FROM api_keys WHERE secret_hash = ANY($1::bytea[]) AND revoked_at IS NULL`,
    },
    [hashes],
  )

/** Makes a key known. The same id again replaces its secret. */
export const putKey = async (db: Db, key: Omit<ApiKey, 'created_at'>): Promise<ApiKey> => {
  const rows = await db.query<ApiKey>(
    {
      name: 'keys_put',
      text: `INSERT INTO api_keys (id, name, secret_hash, hint, scopes, requests_per_minute, weight) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash, hint = excluded.hint, revoked_at = NULL
        RETURNING ${COLUMNS}`,
    },
    [key.id, key.name, key.secret_hash, key.hint, key.scopes, key.requests_per_minute, key.weight],
  )
  return rows[0]!
}

export const isLiveKey = async (db: Db, id: string): Promise<boolean> => {
  const rows = await db.query(
    { name: 'keys_is_live', text: 'SELECT FROM api_keys WHERE id = $1 AND revoked_at IS NULL' },
    [id],
  )
  return rows.length > 0
}

export const listKeys = (db: Db): Promise<ApiKey[]> =>
  db.query<ApiKey>({
    name: 'keys_list',
    text: `SELECT ${COLUMNS} FROM api_keys WHERE revoked_at IS NULL ORDER BY id DESC`,
  })

/** Signs what is sent to the key's webhooks. @returns null: there is no such live key */
export const readWebhookSecret = async (db: Db, id: string): Promise<Buffer | null> => {
  const rows = await db.query<{ webhook_secret: Buffer }>(
    {
      name: 'keys_webhook_secret',
      text: 'SELECT webhook_secret FROM api_keys WHERE id = $1 AND revoked_at IS NULL',
    },
    [id],
  )
  return rows[0]?.webhook_secret ?? null
}

/** A new one in its place, with which everything is signed from now on. */
export const rotateWebhookSecret = async (db: Db, id: string): Promise<Buffer | null> => {
  const rows = await db.query<{ webhook_secret: Buffer }>(
    {
      name: 'keys_rotate_webhook_secret',
      text: 'UPDATE api_keys SET webhook_secret = DEFAULT WHERE id = $1 AND revoked_at IS NULL RETURNING webhook_secret',
    },
    [id],
  )
  return rows[0]?.webhook_secret ?? null
}

/** @returns the key that was revoked, or null if there is no such live key */
export const revokeKey = async (db: Db, id: string): Promise<ApiKey | null> => {
  const rows = await db.query<ApiKey>(
    {
      name: 'keys_revoke',
      text: `UPDATE api_keys SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING ${COLUMNS}`,
    },
    [id],
  )
  return rows[0] ?? null
}

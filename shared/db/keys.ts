import { type Budget, type BudgetWindow, putBudgetStep } from './budgets.ts'
import { jsonOrNull } from './json.ts'
import type { Db, Statement } from './pool.ts'

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
  /** null: every provider. */
  allowed_providers: string[] | null
  /** Names and patterns, see `mayUse`; null: every model. */
  allowed_models: string[] | null
  /** Options of tasks that do not set them. */
  default_options: Record<string, unknown> | null
  /** The key is refused from then on; null: never. */
  expires_at: Date | null
  created_at: Date
}

/** A key as one of its secrets finds it. */
export type FoundKey = ApiKey & {
  /** Of a replaced secret: it is refused from then on. null: the current secret. */
  secret_expires_at: Date | null
}

/** Serialises the rotations of a key's secrets. */
export const LOCK_KEY: Statement = {
  name: 'keys_lock',
  text: 'SELECT FROM api_keys WHERE id = $1 AND revoked_at IS NULL FOR UPDATE',
}

/** `previous_secrets`: replaced secrets that are still accepted, newest first. */
export type ListedKey = ApiKey & { previous_secrets: { hint: string; expires_at: string }[] }

const columns = (secretHash: string) =>
  `k.id, k.name, ${secretHash} AS secret_hash, k.hint, k.scopes, k.requests_per_minute, k.weight, k.allowed_providers, k.allowed_models,
  k.default_options, k.expires_at, k.created_at`
const LISTED = `${columns('k.secret_hash')}, coalesce((
    SELECT json_agg(json_build_object('hint', r.hint, 'expires_at', r.valid_until) ORDER BY r.retired_at DESC)
    FROM retired_key_secrets r WHERE r.api_key_id = k.id AND r.valid_until > now()
  ), '[]') AS previous_secrets`

/** The live keys with these secret hashes, current or replaced. `secret_hash` is the hash that was given. */
export const findKeys = (db: Db, hashes: Buffer[]): Promise<FoundKey[]> =>
  db.query<FoundKey>(
    {
      name: 'keys_find',
      text: `SELECT ${columns('k.secret_hash')}, NULL::timestamptz AS secret_expires_at
        FROM api_keys k WHERE k.secret_hash = ANY($1::bytea[]) AND k.revoked_at IS NULL
        UNION ALL
        SELECT ${columns('r.secret_hash')}, r.valid_until
        FROM retired_key_secrets r JOIN api_keys k ON k.id = r.api_key_id
        WHERE r.secret_hash = ANY($1::bytea[]) AND r.valid_until > now() AND k.revoked_at IS NULL`,
    },
    [hashes],
  )

/** A key before it is stored. */
export type NewKey = Omit<ApiKey, 'created_at'>

const INSERT = `INSERT INTO api_keys AS k (id, name, secret_hash, hint, scopes, requests_per_minute, weight, allowed_providers,
    allowed_models, default_options, expires_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
const insertValues = (key: NewKey) => [
  key.id,
  key.name,
  key.secret_hash,
  key.hint,
  key.scopes,
  key.requests_per_minute,
  key.weight,
  key.allowed_providers,
  key.allowed_models,
  jsonOrNull(key.default_options),
  key.expires_at,
]

/** Creates a key together with its budgets. */
export async function createKey(
  db: Db,
  key: NewKey,
  budgets: readonly { window: BudgetWindow; limitUsd: string }[],
): Promise<{ key: ApiKey; budgets: Budget[] }> {
  const [[created], ...limits] = await db.transaction<[ApiKey[], ...Budget[][]]>([
    [{ name: 'keys_create', text: `${INSERT} RETURNING ${columns('k.secret_hash')}` }, insertValues(key)],
    ...budgets.map(one => putBudgetStep({ ...one, scope: `key:${key.id}` })),
  ])
  return { key: created!, budgets: limits.flat() }
}

/** Installs the operator's key. An existing id gets the new secret, is live again and does not expire. */
export const installKey = async (db: Db, key: NewKey): Promise<void> =>
  void (await db.query(
    {
      name: 'keys_install',
      text: `${INSERT} ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash, hint = excluded.hint,
          scopes = excluded.scopes, expires_at = NULL, revoked_at = NULL`,
    },
    insertValues(key),
  ))

/** Fields that may be changed. Absent: unchanged. */
export type KeyChanges = Partial<Omit<ApiKey, 'id' | 'secret_hash' | 'hint' | 'created_at'>>

const CHANGEABLE = {
  name: 'text',
  scopes: 'text[]',
  requests_per_minute: 'int',
  weight: 'smallint',
  allowed_providers: 'text[]',
  allowed_models: 'text[]',
  default_options: 'json',
  expires_at: 'timestamptz',
} as const satisfies Record<keyof KeyChanges, string>
const CHANGEABLE_NAMES = Object.keys(CHANGEABLE) as (keyof KeyChanges)[]

const changeStatement = {
  name: 'keys_change',
  text: `UPDATE api_keys k SET ${CHANGEABLE_NAMES.map(
    (name, i) =>
      `${name} = CASE WHEN '${name}' = ANY($2::text[]) THEN $${i + 3}::${CHANGEABLE[name]} ELSE k.${name} END`,
  ).join(', ')}
    WHERE k.id = $1 AND k.revoked_at IS NULL RETURNING ${LISTED}`,
}

/** @returns the changed key; null: no such live key */
export async function changeKey(db: Db, id: string, changes: KeyChanges): Promise<ListedKey | null> {
  const values = CHANGEABLE_NAMES.map(name =>
    name === 'default_options' ? jsonOrNull(changes.default_options ?? null) : (changes[name] ?? null),
  )
  const [changed] = await db.query<ListedKey>(changeStatement, [id, Object.keys(changes), ...values])
  return changed ?? null
}

/**
 * Replaces the secret of a key. The old secret is accepted for `overlapSeconds`, and secrets replaced earlier no longer than that: 0
 * ends them all.
 * @returns null: no such live key
 */
export async function rotateKey(
  db: Db,
  id: string,
  secret: Pick<ApiKey, 'secret_hash' | 'hint'>,
  overlapSeconds: number,
): Promise<ListedKey | null> {
  const results = await db.transaction<ListedKey[][]>([
    // Serialises the rotations of a key: the later one retires the secret of the earlier one.
    [LOCK_KEY, [id]],
    [
      {
        name: 'keys_retire_secret',
        text: `INSERT INTO retired_key_secrets (secret_hash, api_key_id, hint, valid_until)
          SELECT secret_hash, id, hint, now() + make_interval(secs => $2) FROM api_keys WHERE id = $1 AND revoked_at IS NULL`,
      },
      [id, overlapSeconds],
    ],
    [
      {
        name: 'keys_shorten_secrets',
        text: `UPDATE retired_key_secrets SET valid_until = least(valid_until, now() + make_interval(secs => $2))
          WHERE api_key_id = $1`,
      },
      [id, overlapSeconds],
    ],
    [
      {
        name: 'keys_rotate_secret',
        text: `UPDATE api_keys k SET secret_hash = $2, hint = $3 WHERE k.id = $1 AND k.revoked_at IS NULL RETURNING ${LISTED}`,
      },
      [id, secret.secret_hash, secret.hint],
    ],
  ])
  return results.at(-1)![0] ?? null
}

export const isLiveKey = async (db: Db, id: string): Promise<boolean> => {
  const rows = await db.query(
    { name: 'keys_is_live', text: 'SELECT FROM api_keys WHERE id = $1 AND revoked_at IS NULL' },
    [id],
  )
  return rows.length > 0
}

/** The live keys, newest first. @param id absent: all */
export const listKeys = (db: Db, id: string | null = null): Promise<ListedKey[]> =>
  db.query<ListedKey>(
    id === null
      ? { name: 'keys_list', text: `SELECT ${LISTED} FROM api_keys k WHERE k.revoked_at IS NULL ORDER BY k.id DESC` }
      : { name: 'keys_read', text: `SELECT ${LISTED} FROM api_keys k WHERE k.id = $1 AND k.revoked_at IS NULL` },
    id === null ? [] : [id],
  )

/** @returns the revoked key; null: no such live key */
export const revokeKey = async (db: Db, id: string): Promise<ListedKey | null> => {
  const rows = await db.query<ListedKey>(
    {
      name: 'keys_revoke',
      text: `UPDATE api_keys k SET revoked_at = now() WHERE k.id = $1 AND k.revoked_at IS NULL RETURNING ${LISTED}`,
    },
    [id],
  )
  return rows[0] ?? null
}

/** Deletes replaced secrets that are no longer accepted. */
export const pruneKeySecrets = async (db: Db): Promise<void> =>
  void (await db.query({
    name: 'keys_prune_secrets',
    text: 'DELETE FROM retired_key_secrets WHERE valid_until <= now()',
  }))

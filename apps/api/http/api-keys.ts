import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { coalesce } from '#shared/concurrency/coalesce.ts'
import type { Budget, BudgetWindow } from '#shared/db/budgets.ts'
import {
  type ApiKey,
  createKey,
  type FoundKey,
  findKeys,
  installKey,
  type KeyChanges,
  type ListedKey,
  type NewKey,
  rotateKey,
  SCOPES,
  type Scope,
} from '#shared/db/keys.ts'
import { type Db, isDuplicate, splitOnError } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { newId } from '#shared/ids.ts'
import { now as wallClock } from '#shared/process/clock.ts'

/**
 * A change takes effect in every process within five seconds: a key is cached for FRESH_MS, and keys with open requests are
 * read again every RECHECK_MS. A request that is accepted at the end of the first is ended by the end of the second.
 */
const FRESH_MS = 2500
export const RECHECK_MS = 2000
/** Cached keys, including unknown ones. */
const MAX_CACHED = 10_000

/** What a new key is and may do. Absent: it submits and reads, without restrictions. */
export type KeySettings = Pick<NewKey, 'name'> & KeyChanges

const UNRESTRICTED = {
  requests_per_minute: null,
  weight: 1,
  allowed_providers: null,
  allowed_models: null,
  default_options: null,
  expires_at: null,
}

export type ApiKeys = {
  /** The live key with this secret, or null. @throws SluiceError api_key_expired; DatabaseUnavailable */
  find(secret: string): Promise<FoundKey | null>
  /** Creates a key with its budgets. The secret is returned only here. */
  create(
    key: KeySettings,
    budgets?: readonly { window: BudgetWindow; limitUsd: string }[],
  ): Promise<{ key: ApiKey; budgets: Budget[]; secret: string }>
  /**
   * Gives a key a new secret, which is returned only here. The old one is accepted for `overlapSeconds`.
   * @returns null: no such live key
   */
  rotate(id: string, overlapSeconds: number): Promise<{ key: ListedKey; secret: string } | null>
  /** Installs the operator's own secret, with every scope. */
  installAdmin(secret: string): Promise<void>
  /**
   * Calls `onRevoked` at each check that finds the key revoked or expired, or its secret replaced. For requests that last longer than the
   * check at their start. @returns a function that stops watching
   */
  watch(key: ApiKey, onRevoked: () => void): () => void
  /** Reads all watched keys again, in one query. @throws DatabaseUnavailable */
  recheckWatched(): Promise<void>
  /** Call it after changing a key: this process reads it again at once, others within FRESH_MS. */
  invalidate(id: string): void
}

/** The operator's key has a fixed id, so that a new ADMIN_KEY replaces the old secret and keeps the tasks. */
export const ADMIN_ID = '00000000-0000-7000-8000-000000000000'

const hashOf = (secret: string): Buffer => hash('sha256', secret, 'buffer')

const newSecret = (): string => `sk-sluice-${randomBytes(32).toString('base64url')}`
const identityOf = (secret: string) => ({ secret_hash: hashOf(secret), hint: secret.slice(-4) })

const isPast = (time: Date | null): boolean => time !== null && time.getTime() <= wallClock()
/** Whether the secret that found the key is still accepted, and the key has not expired. */
const isLive = (key: FoundKey): boolean => !isPast(key.secret_expires_at) && !isPast(key.expires_at)

export function createApiKeys(db: Db, now: () => number = () => performance.now()): ApiKeys {
  const cached = new Map<string, { key: FoundKey | null; until: number }>()
  const watched = new Map<string, { secretHash: Buffer; listeners: Set<() => void> }>()

  const readKey = coalesce<Buffer, FoundKey | null>({
    max: 500,
    splitOnError,
    flush: async hashes => {
      const found = await findKeys(db, hashes)
      return hashes.map(hash => found.find(key => timingSafeEqual(key.secret_hash, hash)) ?? null)
    },
  })

  function store(id: string, key: FoundKey | null): void {
    // Evict the oldest, so that guessed keys cannot fill the memory.
    if (cached.size >= MAX_CACHED) cached.delete(cached.keys().next().value!)
    cached.delete(id)
    cached.set(id, { key, until: now() + FRESH_MS })
  }

  async function read(secret: string): Promise<FoundKey | null> {
    const id = hash('sha256', secret, 'base64')
    const entry = cached.get(id)
    if (entry && entry.until > now()) return entry.key
    const key = await readKey(hashOf(secret))
    store(id, key)
    return key
  }

  return {
    async find(secret) {
      const key = await read(secret)
      if (!key || isPast(key.secret_expires_at)) return null
      if (isPast(key.expires_at)) {
        throw new SluiceError('api_key_expired', `The API key expired at ${key.expires_at!.toISOString()}.`, {
          context: { expires_at: key.expires_at!.toISOString() },
        })
      }
      return key
    },
    watch({ secret_hash: secretHash }, onRevoked) {
      const id = secretHash.toString('base64')
      const group = watched.get(id) ?? { secretHash, listeners: new Set() }
      watched.set(id, group)
      // A new function for each call, because a set would merge equal ones.
      const listener = () => onRevoked()
      group.listeners.add(listener)
      return () => {
        group.listeners.delete(listener)
        if (group.listeners.size === 0 && watched.get(id) === group) watched.delete(id)
      }
    },
    async recheckWatched() {
      const entries = [...watched]
      if (entries.length === 0) return
      const found = await findKeys(
        db,
        entries.map(([, { secretHash }]) => secretHash),
      )
      const live = new Set(found.filter(isLive).map(key => key.secret_hash.toString('base64')))
      for (const [id, { listeners }] of entries) {
        if (live.has(id)) continue
        cached.delete(id)
        for (const listener of [...listeners]) listener()
      }
    },
    async create(key, budgets = []) {
      const secret = newSecret()
      const made = { ...UNRESTRICTED, scopes: ['submit', 'read'] satisfies Scope[], ...key }
      return { ...(await createKey(db, { ...made, ...identityOf(secret), id: newId() }, budgets)), secret }
    },
    async rotate(id, overlapSeconds) {
      const secret = newSecret()
      const key = await rotateKey(db, id, identityOf(secret), overlapSeconds)
      return key && { key, secret }
    },
    async installAdmin(secret) {
      const admin: NewKey = {
        ...{ id: ADMIN_ID, name: 'admin', scopes: [...SCOPES] },
        ...UNRESTRICTED,
        ...identityOf(secret),
      }
      // Processes that start together insert the same row. The second one fails on the unique secret before the upsert by id
      // applies; its second try finds the row.
      await installKey(db, admin).catch(error => (isDuplicate(error) ? installKey(db, admin) : Promise.reject(error)))
    },
    invalidate(id) {
      for (const [secret, { key }] of cached) if (key?.id === id) cached.delete(secret)
    },
  }
}

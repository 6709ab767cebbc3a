import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { coalesce } from '#shared/concurrency/coalesce.ts'
import { type ApiKey, findKeys, putKey, SCOPES, type Scope } from '#shared/db/keys.ts'
import { type Db, isDuplicate, splitOnError } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'

/**
 * A revocation takes effect in every process within five seconds: a key is cached for FRESH_MS, and keys with open requests are
 * read again every RECHECK_MS. A request that is accepted at the end of the first is ended by the end of the second.
 */
const FRESH_MS = 2500
export const RECHECK_MS = 2000
/** Cached keys, including unknown ones. */
const MAX_CACHED = 10_000

export type ApiKeys = {
  /** The live key with this secret, or null. @throws DatabaseUnavailable */
  find(secret: string): Promise<ApiKey | null>
  /** Creates a key. The secret is returned only here. */
  create(key: {
    name: string
    scopes: Scope[]
    requestsPerMinute: number | null
    weight: number
  }): Promise<{ key: ApiKey; secret: string }>
  /** Installs the operator's own secret, with every scope. */
  installAdmin(secret: string): Promise<void>
  /**
   * Calls `onRevoked` at each check that finds the key revoked or its secret replaced. For requests that last longer than the
   * check at their start. @returns a function that stops watching
   */
  watch(key: ApiKey, onRevoked: () => void): () => void
  /** Reads all watched keys again, in one query. @throws DatabaseUnavailable */
  recheckWatched(): Promise<void>
  /** Call it after changing a key. */
  invalidate(secretHash: Buffer): void
}

/** The operator's key has a fixed id, so that a new ADMIN_KEY replaces the old secret and keeps the tasks. */
const ADMIN_ID = '00000000-0000-7000-8000-000000000000'

const hashOf = (secret: string): Buffer => hash('sha256', secret, 'buffer')

export function createApiKeys(db: Db, now: () => number = () => performance.now()): ApiKeys {
  const cached = new Map<string, { key: ApiKey | null; until: number }>()
  const watched = new Map<string, { secretHash: Buffer; listeners: Set<() => void> }>()

  const readKey = coalesce<Buffer, ApiKey | null>({
    max: 500,
    splitOnError,
    flush: async hashes => {
      const found = await findKeys(db, hashes)
      return hashes.map(hash => found.find(key => timingSafeEqual(key.secret_hash, hash)) ?? null)
    },
  })

  function store(id: string, key: ApiKey | null): void {
    // Evict the oldest, so that guessed keys cannot fill the memory.
    if (cached.size >= MAX_CACHED) cached.delete(cached.keys().next().value!)
    cached.delete(id)
    cached.set(id, { key, until: now() + FRESH_MS })
  }

  const put = (id: string, secret: string, key: Parameters<ApiKeys['create']>[0]) =>
    putKey(db, {
      id,
      name: key.name,
      secret_hash: hashOf(secret),
      hint: secret.slice(-4),
      scopes: key.scopes,
      requests_per_minute: key.requestsPerMinute,
      weight: key.weight,
    })

  return {
    async find(secret) {
      const id = hash('sha256', secret, 'base64')
      const entry = cached.get(id)
      if (entry && entry.until > now()) return entry.key
      const key = await readKey(hashOf(secret))
      store(id, key)
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
      const live = new Set(found.map(key => key.secret_hash.toString('base64')))
      for (const [id, { listeners }] of entries) {
        if (live.has(id)) continue
        store(id, null)
        for (const listener of [...listeners]) listener()
      }
    },
    async create(key) {
      const secret = `sk-sluice-${randomBytes(32).toString('base64url')}`
      return { key: await put(newId(), secret, key), secret }
    },
    async installAdmin(secret) {
      const admin = { name: 'admin', scopes: [...SCOPES], requestsPerMinute: null, weight: 1 }
      // Processes that start together insert the same row. The second one fails on the unique secret before the upsert by id
      // applies; its second try finds the row.
      await put(ADMIN_ID, secret, admin).catch(error =>
        isDuplicate(error) ? put(ADMIN_ID, secret, admin) : Promise.reject(error),
      )
    },
    invalidate: secretHash => void cached.delete(secretHash.toString('base64')),
  }
}

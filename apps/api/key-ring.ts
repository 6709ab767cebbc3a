import { hash, randomBytes, timingSafeEqual } from 'node:crypto'
import { coalesce } from '#shared/coalesce.ts'
import { type ApiKey, findKeys, putKey, SCOPES, type Scope } from '#shared/db/keys.ts'
import { type Db, isDuplicate, itemsToBlame } from '#shared/db/pool.ts'
import { newId } from '#shared/ids.ts'

/** How long a process may act on what it last read of a key; a revocation takes effect everywhere within this. */
const FRESH_MS = 5000
/** Keys remembered, known and unknown ones together. */
const REMEMBERED = 10_000

export type KeyRing = {
  /** The live key with this secret, or null. @throws DatabaseUnavailable */
  find(secret: string): Promise<ApiKey | null>
  /** Makes a key; its secret is in the answer and nowhere else. */
  create(key: {
    name: string
    scopes: Scope[]
    requestsPerMinute: number | null
    weight: number
  }): Promise<{ key: ApiKey; secret: string }>
  /** Installs the operator's own secret, with every scope. */
  installAdmin(secret: string): Promise<void>
  /** To be called when a key was changed by this process. */
  forget(secretHash: Buffer): void
}

/** The operator's own key has a fixed id, so that replacing ADMIN_KEY ends the old one and keeps the tasks. */
const ADMIN_ID = '00000000-0000-7000-8000-000000000000'

const hashOf = (secret: string): Buffer => hash('sha256', secret, 'buffer')

export function createKeyRing(db: Db, now: () => number = () => performance.now()): KeyRing {
  const remembered = new Map<string, { key: ApiKey | null; until: number }>()

  const lookUp = coalesce<Buffer, ApiKey | null>({
    max: 500,
    itemsToBlame,
    flush: async hashes => {
      const found = await findKeys(db, hashes)
      return hashes.map(hash => found.find(key => timingSafeEqual(key.secret_hash, hash)) ?? null)
    },
  })

  const put = (id: string, secret: string, key: Parameters<KeyRing['create']>[0]) =>
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
      const known = remembered.get(id)
      if (known && known.until > now()) return known.key
      const key = await lookUp(hashOf(secret))
      // Oldest out, so that guesses cannot fill the memory.
      if (remembered.size >= REMEMBERED) remembered.delete(remembered.keys().next().value!)
      remembered.delete(id)
      remembered.set(id, { key, until: now() + FRESH_MS })
      return key
    },
    async create(key) {
      const secret = `sk-sluice-${randomBytes(32).toString('base64url')}`
      return { key: await put(newId(), secret, key), secret }
    },
    async installAdmin(secret) {
      const admin = { name: 'admin', scopes: [...SCOPES], requestsPerMinute: null, weight: 1 }
      // Processes that start together insert the same row: whoever is second trips over its secret before its id, and
      // finds the row there when it tries again.
      await put(ADMIN_ID, secret, admin).catch(error =>
        isDuplicate(error) ? put(ADMIN_ID, secret, admin) : Promise.reject(error),
      )
    },
    forget: secretHash => void remembered.delete(secretHash.toString('base64')),
  }
}

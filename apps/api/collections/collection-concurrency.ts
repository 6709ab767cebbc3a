import { createSemaphore, type Semaphore } from '#shared/concurrency/semaphore.ts'
import type { Owned } from '#shared/db/collections/collections.ts'
import type { Db } from '#shared/db/pool.ts'
import { createSearch, type Search } from '#shared/jobs/input-context.ts'
import { withPermit } from '../http/concurrency-limit.ts'

/** A write locks its collection, and a writer that waits for the lock occupies a connection. */
const WRITES_PER_COLLECTION = { atOnce: 1, waiting: 50, waitMs: 10_000 }
/** Documents are split and indexed as they are written, which takes about a second for some megabytes. */
const WRITES = { atOnce: 2, waiting: 100, waitMs: 10_000 }
/** A search may read a whole collection. The limit leaves connections for other requests. */
const SEARCHES = { atOnce: 4, waiting: 200, waitMs: 5000 }

export type WriteCollection = <T>(collection: Owned, write: () => Promise<T>) => Promise<T>

/** Serializes the writes to each collection, and limits the writes to all collections. @throws SluiceError server_busy */
export function createCollectionWriter(): WriteCollection {
  const all = createSemaphore(WRITES)
  const byCollection = new Map<string, { semaphore: Semaphore; users: number }>()

  return async ({ apiKeyId, name }, write) => {
    const key = `${apiKeyId} ${name}`
    const own = byCollection.get(key) ?? { semaphore: createSemaphore(WRITES_PER_COLLECTION), users: 0 }
    byCollection.set(key, own)
    own.users++
    try {
      return await withPermit(own.semaphore, () => withPermit(all, write))
    } finally {
      own.users--
      if (own.users === 0) byCollection.delete(key)
    }
  }
}

/** @throws SluiceError server_busy */
export function createBoundedSearch(db: Db): Search {
  const searches = createSemaphore(SEARCHES)
  const search = createSearch(db)
  return (collection, query) => withPermit(searches, () => search(collection, query))
}

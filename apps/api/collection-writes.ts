import type { Owned } from '#shared/db/collections.ts'
import { createLanes, type Lanes } from '#shared/lanes.ts'
import { inTurn } from './in-turn.ts'

/** Whoever writes to a collection locks it: a connection that waits for that lock is lost to everybody else. */
const ONE = { atOnce: 1, waiting: 50, waitMs: 10_000 }
/** Documents are cut up and indexed as they are written: a second for some megabytes. */
const ALL = { atOnce: 2, waiting: 100, waitMs: 10_000 }

export type CollectionWrites = <T>(whose: Owned, write: () => Promise<T>) => Promise<T>

/** Writes to one collection one after the other, and to all of them few at a time. @throws SluiceError server_busy */
export function createCollectionWrites(): CollectionWrites {
  const all = createLanes(ALL)
  const byCollection = new Map<string, { lanes: Lanes; users: number }>()

  return async ({ apiKeyId, name }, write) => {
    const key = `${apiKeyId} ${name}`
    const one = byCollection.get(key) ?? { lanes: createLanes(ONE), users: 0 }
    byCollection.set(key, one)
    one.users++
    try {
      return await inTurn(one.lanes, () => inTurn(all, write))
    } finally {
      one.users--
      if (one.users === 0) byCollection.delete(key)
    }
  }
}

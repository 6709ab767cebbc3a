import type { Db } from '#shared/db/pool.ts'
import { SluiceError } from '#shared/errors.ts'
import { createLanes } from '#shared/lanes.ts'
import { createSearch, type Search } from '#shared/lookup.ts'

/** A search may read a whole collection: some at a time, so that a flood of them leaves connections to whatever else is asked. */
const SEARCHES = { atOnce: 4, waiting: 200, waitMs: 5000 }
/** Seconds after which a client that was turned away should ask again. */
const AGAIN_SECONDS = 2

/** @throws SluiceError server_busy */
export function createBoundedSearch(db: Db): Search {
  const lanes = createLanes(SEARCHES)
  const search = createSearch(db)
  return async (whose, wanted) => {
    const done = await lanes(async () => ({ found: await search(whose, wanted) }))
    if (!done) throw new SluiceError('server_busy', undefined, { retryAfter: AGAIN_SECONDS })
    return done.found
  }
}

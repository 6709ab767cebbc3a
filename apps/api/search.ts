import type { Db } from '#shared/db/pool.ts'
import { createLanes } from '#shared/lanes.ts'
import { createSearch, type Search } from '#shared/lookup.ts'
import { inTurn } from './in-turn.ts'

/** A search may read a whole collection: some at a time, so that a flood of them leaves connections to whatever else is asked. */
const SEARCHES = { atOnce: 4, waiting: 200, waitMs: 5000 }

/** @throws SluiceError server_busy */
export function createBoundedSearch(db: Db): Search {
  const lanes = createLanes(SEARCHES)
  const search = createSearch(db)
  return (whose, wanted) => inTurn(lanes, () => search(whose, wanted))
}

import { passageId } from './collections/collection.ts'
import { type Found, type Owned, searchPassages } from './db/collections.ts'
import { policyReader } from './db/policies.ts'
import type { Db } from './db/pool.ts'
import type { Lookup } from './jobs/define.ts'

/** @returns null: there is no such collection */
export type Search = (whose: Owned, wanted: { question: string; limit: number }) => Promise<Found[] | null>

export const createSearch =
  (db: Db): Search =>
  (whose, wanted) =>
    searchPassages(db, whose, wanted)

/**
 * Makes what inputs of one key are prepared with. To be made for one submission, or one reading of a batch: what is read by name
 * is read once.
 */
export const createLookup =
  ({ db, search, runsQueries }: { db: Db; search: Search; runsQueries: boolean }): ((apiKeyId: string) => Lookup) =>
  apiKeyId => ({
    policy: policyReader(db),
    async passages(name, wanted) {
      const found = await search({ apiKeyId, name }, wanted)
      return found
        ? found.map(({ document, n, text }) => ({ id: passageId(document, n), text }))
        : { wrong: `there is no collection "${name}"` }
    },
    runsQueries,
  })

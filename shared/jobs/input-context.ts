import { passageId } from '#shared/collections/collection.ts'
import type { Owned } from '#shared/db/collections/collections.ts'
import { type Found, searchPassages } from '#shared/db/collections/search.ts'
import type { Db } from '#shared/db/pool.ts'
import { createPolicyReader } from '#shared/moderation/policy-reader.ts'
import type { InputContext } from './define.ts'

/** @returns null: the collection does not exist */
export type Search = (owner: Owned, query: { question: string; limit: number }) => Promise<Found[] | null>

export const createSearch =
  (db: Db): Search =>
  (owner, query) =>
    searchPassages(db, owner, query)

/** Create one context per submission, or per validation of a batch: it reads each policy only once. */
export const createInputContext =
  ({
    db,
    search,
    runsQueries,
  }: {
    db: Db
    search: Search
    runsQueries: boolean
  }): ((apiKeyId: string) => InputContext) =>
  apiKeyId => ({
    policy: createPolicyReader(db),
    async passages(name, wanted) {
      const found = await search({ apiKeyId, name }, wanted)
      return found
        ? found.map(({ document, n, text }) => ({ id: passageId(document, n), text }))
        : { wrong: `there is no collection "${name}"` }
    },
    runsQueries,
  })

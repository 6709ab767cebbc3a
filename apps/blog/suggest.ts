import type { Answer, Ask, Origin } from './answers.ts'
import type { Metrics } from './metrics.ts'
import { type Store, type Suggestion, type Topic, wordsOf } from './store.ts'

/** How many past topics the kind `blog-topics` takes, and how long each may be. */
const MOST_PAST = 100
const LONGEST_PAST = 200
/** An answer may hold what its author had before: it was remembered from another, or the author has had more than can be named. */
const ROUNDS = 3

export type Wanted = {
  author: string
  interests: string[]
  /** Titles that are not to be suggested either. */
  past: string[]
  count: number
  audience: string | undefined
}

export type Suggest = (wanted: Wanted) => Promise<Suggestion[]>

/** Topics that the author has not had before: as many as wanted, or fewer if there are no more. @throws HttpError if there are none */
export function createSuggest({ store, ask, metrics }: { store: Store; ask: Ask; metrics: Metrics }): Suggest {
  return async ({ author, interests, past, count, audience }) => {
    const given = new Set(past.map(wordsOf))
    const found: Suggestion[] = []
    const repeated: string[] = []
    for (let round = 0; round < ROUNDS && found.length < count; round++) {
      try {
        const remembered = await store.of(author, { after: null, limit: MOST_PAST })
        // The first are those that an answer is known to bring again.
        const all = [...repeated, ...past, ...remembered.map(one => one.title)].map(asLine)
        const input = {
          interests,
          past_topics: [...new Set(all)].slice(0, MOST_PAST),
          count: count - found.length,
          ...(audience !== undefined && { audience }),
        }
        const answer: Answer<{ topics: Topic[] }> = await ask('blog-topics', input, author)
        const { topics } = answer.result
        const added = await store.add(
          author,
          topics.filter(one => !given.has(wordsOf(one.title))),
          answer,
        )
        found.push(...added)
        const titles = new Set(added.map(one => one.title))
        const again = topics.filter(one => !titles.has(one.title)).map(one => one.title)
        repeated.push(...again)
        metrics.repeated.inc(again.length)
      } catch (error) {
        // What there is has been stored as theirs: it would never be suggested again.
        if (found.length > 0) break
        throw error
      }
    }
    return found
  }
}

/** A title as the kind takes it. */
const asLine = (title: string): string => title.replace(/\s+/g, ' ').slice(0, LONGEST_PAST).toWellFormed()

const RANKS: Origin['quality'][] = ['low', 'medium', 'high']

/** What is said of several together is true of the poorest. */
export const poorest = (all: [Origin, ...Origin[]]): Origin =>
  all.reduce((one, other) => (RANKS.indexOf(other.quality) < RANKS.indexOf(one.quality) ? other : one))

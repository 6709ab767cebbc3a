import { englishDataset, englishRecommendedTransformers, RegExpMatcher } from 'obscenity'

/** Names and words that the data set takes for what they are not. */
const INNOCENT = [
  'cockpit',
  'penistone',
  'shiitake',
  'cum laude',
  'retardant',
  'moby dick',
  'dick van dyke',
  'dick cheney',
  'philip k. dick',
]

// Made at the first text that is looked at: most processes never look at one.
let matcher: RegExpMatcher | null = null
const getMatcher = () => {
  if (matcher) return matcher
  const words = englishDataset.build()
  const whitelistedTerms = [...(words.whitelistedTerms ?? []), ...INNOCENT]
  matcher = new RegExpMatcher({ ...words, whitelistedTerms, ...englishRecommendedTransformers })
  return matcher
}

/** The matcher's time grows with the square of a text's length; a window's is bounded. */
const WINDOW = 2000
/** More than the longest word or exception, so that each is seen whole in the window in which it starts. */
const MARGIN = 200

/** English profanity, also in disguise (`sh1t`, `fuuuck`), from left to right, none overlapping. */
export function findProfanity(text: string): { word: string; start: number; end: number }[] {
  const found: { word: string; start: number; end: number }[] = []
  for (let core = 0; core < text.length; core += WINDOW) {
    const offset = Math.max(0, core - MARGIN)
    const window = text.slice(offset, core + WINDOW + MARGIN)
    for (const { startIndex, endIndex } of getMatcher().getAllMatches(window, true)) {
      const start = offset + startIndex
      const end = offset + endIndex + 1
      if (start < core || start >= core + WINDOW) continue
      const word = text.slice(start, end)
      // Read as letters, `455` and `$5` are words too.
      if (!/\p{L}/u.test(word)) continue
      const last = found.at(-1)
      if (last && start < last.end) {
        if (end > last.end) found[found.length - 1] = { word: text.slice(last.start, end), start: last.start, end }
      } else {
        found.push({ word, start, end })
      }
    }
  }
  return found
}

import { englishDataset, englishRecommendedTransformers, RegExpMatcher } from 'obscenity'
import { findInReadings } from './readings.ts'

/** Names and words that the data set matches by mistake. */
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

// Created for the first text, because most processes never check one.
let matcher: RegExpMatcher | null = null
const getMatcher = () => {
  if (matcher) return matcher
  const words = englishDataset.build()
  const whitelistedTerms = [...(words.whitelistedTerms ?? []), ...INNOCENT]
  matcher = new RegExpMatcher({ ...words, whitelistedTerms, ...englishRecommendedTransformers })
  return matcher
}

/** The matcher takes quadratic time, so it gets windows of bounded length. */
const WINDOW = 2000
/** Longer than any word or exception, so that each is complete in the window in which it starts. */
const MARGIN = 200

type Profanity = { word: string; start: number; end: number }

/** Finds English profanity, also disguised (`sh1t`, `fuuuck`, `f u c k`), from left to right, without overlaps. */
export function findProfanity(text: string): Profanity[] {
  const found = findInReadings(text, reading => findInPlain(reading).map(one => ({ ...one, type: 'profanity' })))
  return joined(text, found)
}

function findInPlain(text: string): Omit<Profanity, 'word'>[] {
  const found: Omit<Profanity, 'word'>[] = []
  for (let core = 0; core < text.length; core += WINDOW) {
    const offset = Math.max(0, core - MARGIN)
    const window = text.slice(offset, core + WINDOW + MARGIN)
    for (const { startIndex, endIndex } of getMatcher().getAllMatches(window, true)) {
      const start = offset + startIndex
      const end = offset + endIndex + 1
      if (start < core || start >= core + WINDOW) continue
      // The matcher reads digits as letters; `455` and `$5` are not words.
      if (/\p{L}/u.test(text.slice(start, end))) found.push({ start, end })
    }
  }
  return found
}

/** Merges overlapping findings. */
function joined(text: string, found: readonly Omit<Profanity, 'word'>[]): Profanity[] {
  const all: Profanity[] = []
  for (const { start, end } of found.toSorted((a, b) => a.start - b.start || b.end - a.end)) {
    const last = all.at(-1)
    if (!last || start >= last.end) all.push({ word: text.slice(start, end), start, end })
    else if (end > last.end) all[all.length - 1] = { word: text.slice(last.start, end), start: last.start, end }
  }
  return all
}

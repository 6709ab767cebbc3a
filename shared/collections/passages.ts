/** The longest passage, and what two neighbours share at most, in UTF-16 code units. */
export const PASSAGE_LENGTH = 2000
export const PASSAGE_OVERLAP = 200

/** Where a passage may end, best first: after a paragraph, a sentence, a line, a word. */
const ENDS = [/\n[^\S\n]*\n\s*/g, /[.!?…][)\]"'”’»]*\s+|[。！？]\s*/g, /\n/g, /\s+/g]

/**
 * Cuts a text into passages that are found and cited by themselves: slices of it, in order, of at most `PASSAGE_LENGTH`. They
 * end where a paragraph does, if one ends in their second half, else where a sentence, a line or a word does. Each begins up
 * to `PASSAGE_OVERLAP` before the end of the one before, at a word, so that what stands across a cut is found.
 * @returns none for a text of nothing but white space
 */
export const cutPassages = (text: string): string[] => passageRanges(text).map(([from, to]) => text.slice(from, to))

/** Where they stand. */
export function passageRanges(text: string): [from: number, to: number][] {
  const passages: [number, number][] = []
  const end = text.trimEnd().length
  let from = text.length - text.trimStart().length
  while (from < end) {
    const to = end - from <= PASSAGE_LENGTH ? end : endOf(text, from)
    passages.push([from, from + text.slice(from, to).trimEnd().length])
    if (to === end) break
    from = beginOf(text, to)
  }
  return passages
}

function endOf(text: string, from: number): number {
  const least = from + PASSAGE_LENGTH / 2
  const piece = text.slice(least, from + PASSAGE_LENGTH)
  for (const ends of ENDS) {
    const last = [...piece.matchAll(ends)].at(-1)
    if (last) return least + last.index + last[0].length
  }
  return whole(text, from + PASSAGE_LENGTH)
}

/** Of the passage after one that ended at `to`. */
function beginOf(text: string, to: number): number {
  const from = whole(text, to - PASSAGE_OVERLAP)
  const [space] = text.slice(from, to).matchAll(/\s+/g)
  const begin = space ? from + space.index + space[0].length : from
  // Its white space was the last of the passage before.
  return begin < to ? begin : skipSpace(text, to)
}

function skipSpace(text: string, at: number): number {
  const rest = /\S/.exec(text.slice(at))
  return rest ? at + rest.index : text.length
}

/** Not between the halves of a surrogate pair. */
const whole = (text: string, at: number): number => (/[\ud800-\udbff]/.test(text[at - 1] ?? '') ? at - 1 : at)

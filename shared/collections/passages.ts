/** Maximum length of a passage, and maximum overlap of neighbours, in UTF-16 code units. */
export const PASSAGE_LENGTH = 2000
export const PASSAGE_OVERLAP = 200

/** Ends of passages in order of preference: after a paragraph, a sentence, a line, a word. */
const ENDS = [/\n[^\S\n]*\n\s*/g, /[.!?…][)\]"'”’»]*\s+|[。！？]\s*/g, /\n/g, /\s+/g]

/**
 * Splits a text into passages: slices of at most `PASSAGE_LENGTH`, in order. A passage ends at the last end of a
 * paragraph in its second half, otherwise of a sentence, a line or a word. Each begins at a word, up to
 * `PASSAGE_OVERLAP` before the end of the previous one, so that searches also find text around a boundary.
 * @returns an empty list for a text of only white space
 */
export const cutPassages = (text: string): string[] => passageRanges(text).map(([from, to]) => text.slice(from, to))

/** The ranges of the passages in the text. */
export function passageRanges(text: string): [from: number, to: number][] {
  const passages: [number, number][] = []
  const end = text.trimEnd().length
  let from = text.length - text.trimStart().length
  while (from < end) {
    const to = end - from <= PASSAGE_LENGTH ? end : passageEnd(text, from)
    passages.push([from, from + text.slice(from, to).trimEnd().length])
    if (to === end) break
    from = nextStart(text, to)
  }
  return passages
}

function passageEnd(text: string, from: number): number {
  const least = from + PASSAGE_LENGTH / 2
  const piece = text.slice(least, from + PASSAGE_LENGTH)
  for (const ends of ENDS) {
    const last = [...piece.matchAll(ends)].at(-1)
    if (last) return least + last.index + last[0].length
  }
  return avoidSplitPair(text, from + PASSAGE_LENGTH)
}

/** The start of the passage after one that ended at `to`. */
function nextStart(text: string, to: number): number {
  const from = avoidSplitPair(text, to - PASSAGE_OVERLAP)
  const [space] = text.slice(from, to).matchAll(/\s+/g)
  const begin = space ? from + space.index + space[0].length : from
  // The overlap has no word start: begin after the previous passage.
  return begin < to ? begin : skipSpace(text, to)
}

function skipSpace(text: string, at: number): number {
  const rest = /\S/.exec(text.slice(at))
  return rest ? at + rest.index : text.length
}

/** Moves a position out of a surrogate pair. */
const avoidSplitPair = (text: string, at: number): number => (/[\ud800-\udbff]/.test(text[at - 1] ?? '') ? at - 1 : at)

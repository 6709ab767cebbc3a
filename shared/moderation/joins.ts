/** The passage where texts meet, read as one text, because a word or number may be divided between them. */
export type Join = {
  text: string
  /** The indexes of the texts that a range of `text` covers. */
  partsOf(start: number, end: number): number[]
}

/** Characters on each side of the boundary: more than a word, a number or a phrase has. */
const REACH = 200
/** The same for models, whose input costs money. */
const SEAM_REACH = 80

/**
 * The passages where the texts of a request meet, joined without and with a space. Passages that overlap are merged. A
 * single text has none.
 */
export const joinsOf = (texts: readonly string[]): Join[] =>
  ['', ' '].flatMap(separator => joinsWith(texts, separator, REACH, () => true))

/** The passages as text for a model, except after a text that ends with its sentence. */
export const seamsOf = (texts: readonly string[]): string[] => {
  const goesOn = (text: string) => !/[.!?\u2026\u3002\uff01\uff1f]["'\u201d\u2019)\u300d]?\s*$/.test(text.slice(-8))
  const joins = ['', ' '].flatMap(separator => joinsWith(texts, separator, SEAM_REACH, goesOn))
  return [...new Set(joins.map(one => one.text.toWellFormed()))]
}

function joinsWith(
  texts: readonly string[],
  separator: string,
  reach: number,
  goesOn: (text: string) => boolean,
): Join[] {
  const all = texts.join(separator)
  const places: { start: number; end: number }[] = []
  const windows: { start: number; end: number }[] = []
  for (const [n, text] of texts.entries()) {
    const start = (places.at(-1)?.end ?? -separator.length) + separator.length
    const end = start + text.length
    places.push({ start, end })
    if (n === texts.length - 1 || !goesOn(text)) continue
    const last = windows.at(-1)
    if (last && end - reach <= last.end) last.end = end + reach
    else windows.push({ start: Math.max(0, end - reach), end: end + reach })
  }
  return windows.map(window => ({
    text: all.slice(window.start, window.end),
    partsOf: (start, end) =>
      places.flatMap((one, n) => (one.start < window.start + end && one.end > window.start + start ? [n] : [])),
  }))
}

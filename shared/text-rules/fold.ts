import { confusableOf, isMark, lookalikeLetterOf, plainOf, scriptOf } from './characters.ts'

/**
 * A form of a text that rules search. Unit `i` of `text` represents the original from `starts[i]` to `ends[i]`,
 * exclusive; null: it is the original. Invisible characters belong to no unit.
 */
export type Reading = { text: string; places: { starts: Uint32Array; ends: Uint32Array } | null }

/** Maps a range of a reading to the original, including invisible characters within it. */
export function placeOf({ places }: Reading, start: number, end: number): { start: number; end: number } {
  if (!places || end <= start) return { start, end }
  return { start: places.starts[start]!, end: places.ends[end - 1]! }
}

/** A code point of a reading, and the part of the original that it represents. */
type Piece = { char: string; start: number; end: number }

const IS_PLAIN = /^[\t-\r -~]*$/

/**
 * Removes disguise from a text: drops invisible characters and accents, normalizes letters and digits, and replaces
 * letters that look like ASCII by ASCII. `tags`: read invisible copies of ASCII (Unicode tags) instead of dropping
 * them. Linear in time and memory.
 */
export function fold(text: string, { tags = false }: { tags?: boolean } = {}): Reading {
  if (IS_PLAIN.test(text)) return { text, places: null }
  return reading(withoutLookalikes(piecesOf(text, tags)))
}

const isSmallDigit = (code: number): boolean =>
  (code >= 0x2070 && code <= 0x2089) || code === 0xb2 || code === 0xb3 || code === 0xb9

function piecesOf(text: string, tags: boolean): Piece[] {
  const pieces: Piece[] = []
  let wasTag = false
  for (let start = 0; start < text.length; ) {
    const codePoint = text.codePointAt(start)!
    const end = start + (codePoint > 0xffff ? 2 : 1)
    const last = pieces.at(-1)
    const isTag = tags && codePoint > 0xe001f && codePoint < 0xe007f
    const plain = isTag ? String.fromCharCode(codePoint - 0xe0000) : plainOf(codePoint)
    // Invisible text is not part of the words next to it, and a footnote mark is not part of the number before it.
    const isFootnote =
      isSmallDigit(codePoint) && /\d/.test(last?.char ?? '') && !isSmallDigit(text.charCodeAt(last!.start))
    if (isTag !== wasTag || isFootnote) pieces.push({ char: ' ', start, end })
    wasTag = isTag
    // A mark belongs to the character before it. On a Latin letter, marks of other scripts are dropped.
    if (isMark(codePoint) && last?.end === start && (plain === '' || last.char <= '~')) last.end = end
    else for (const char of plain) pieces.push({ char, start, end })
    start = end
  }
  return pieces
}

/**
 * Replaces lookalikes by ASCII in words with Latin letters, and in words of another script that look entirely Latin. If
 * any word of the text mixes scripts, also in words of another script whose letters all have lookalikes.
 */
function withoutLookalikes(pieces: Piece[]): Piece[] {
  const words = wordsOf(pieces)
  const isMixed = words.some(one => one.isMixed)
  for (const { from, to, hasLatin, looksSame, looksAlike } of words) {
    const letterOf = hasLatin || (isMixed && looksAlike) ? lookalikeLetterOf : looksSame ? confusableOf : null
    for (let at = from; letterOf && at < to; at++) {
      const piece = pieces[at]!
      if (piece.char > '~') piece.char = letterOf(piece.char.codePointAt(0)!) ?? piece.char
    }
  }
  return pieces
}

/** A word with non-ASCII letters. `looksSame`, `looksAlike`: each of them has a confusable, or a lookalike. */
type Word = { from: number; to: number; hasLatin: boolean; isMixed: boolean; looksSame: boolean; looksAlike: boolean }

function wordsOf(pieces: readonly Piece[]): Word[] {
  const words: Word[] = []
  let word: Word | null = null
  let isAscii = true
  let isForeign = false
  const close = () => {
    if (word && !isAscii) words.push({ ...word, isMixed: word.hasLatin && isForeign })
    word = null
  }
  for (const [at, { char }] of pieces.entries()) {
    const codePoint = char.codePointAt(0)!
    const script = scriptOf(codePoint)
    if (script === null) {
      close()
      continue
    }
    if (!word) {
      word = { from: at, to: at, hasLatin: false, isMixed: false, looksSame: true, looksAlike: true }
      isAscii = true
      isForeign = false
    }
    word.to = at + 1
    if (script === 'latin') word.hasLatin = true
    if (codePoint < 0x80) continue
    isAscii = false
    isForeign ||= script === 'similar'
    word.looksSame &&= confusableOf(codePoint) !== null
    word.looksAlike &&= lookalikeLetterOf(codePoint) !== null
  }
  close()
  return words
}

function reading(pieces: readonly Piece[]): Reading {
  const length = pieces.reduce((sum, one) => sum + one.char.length, 0)
  const starts = new Uint32Array(length)
  const ends = new Uint32Array(length)
  let at = 0
  for (const { char, start, end } of pieces) {
    starts.fill(start, at, at + char.length)
    ends.fill(end, at, at + char.length)
    at += char.length
  }
  return { text: pieces.map(one => one.char).join(''), places: { starts, ends } }
}

export type Edit = { start: number; end: number; text: string }

/** Applies edits to a reading. `edits` are sorted and do not overlap. */
export function rewrite(before: Reading, edits: readonly Edit[]): Reading {
  const parts: string[] = []
  const starts: number[] = []
  const ends: number[] = []
  const copy = (from: number, to: number) => {
    parts.push(before.text.slice(from, to))
    for (let i = from; i < to; i++) {
      starts.push(before.places?.starts[i] ?? i)
      ends.push(before.places?.ends[i] ?? i + 1)
    }
  }
  let done = 0
  for (const { start, end, text } of edits) {
    copy(done, start)
    const place = placeOf(before, start, end)
    parts.push(text)
    for (let i = 0; i < text.length; i++) {
      starts.push(place.start)
      ends.push(place.end)
    }
    done = end
  }
  copy(done, before.text.length)
  return { text: parts.join(''), places: { starts: Uint32Array.from(starts), ends: Uint32Array.from(ends) } }
}

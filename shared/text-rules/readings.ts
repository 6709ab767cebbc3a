import type { Finding } from './findings.ts'
import { type Edit, fold, placeOf, type Reading, rewrite } from './fold.ts'

/** `a b c` or `4 - 1 - 1`: at least three single characters with the same separator. */
const SPACED = [
  /(?<![\p{L}\p{N}])\S( {1,3})\S(?![\p{L}\p{N}])(?:\1\S(?![\p{L}\p{N}]))+/gu,
  /(?<![^\n])[^\n](\n)[^\n](?![^\n])(?:\1[^\n](?![^\n]))+/gu,
  // Not a backslash, because JSON and settings write line breaks as `\n\n\n`.
  /(?<![\p{L}\p{N}])[A-Za-z0-9@$]([^\\\p{L}\p{N}\s]{1,3}|\s[^\\\p{L}\p{N}\s]{1,2}\s)[^\\\n](?![\p{L}\p{N}])(?:\1[^\\\n](?![\p{L}\p{N}]))+/gu,
]
/** Words of two letters in a spaced text, and the gaps between its words. */
const PAIR = /(?<=^|\s\s)\S( )\S(?=\s\s|$)/gu
const GAP = /\s{2,}|([^\p{L}\p{N}\s]{1,3}) \1/gu
/** Numbers of at least nine digits in which letters replace some digits. */
const NUMBERLIKE = /(?<![\p{L}\p{N}])[\dOoIl|](?:[ -]?[\dOoIl|]){8,30}(?![\p{L}\p{N}])/gu
const AT_OR_DOT = /\s?[[({]\s?(at|dot)\s?[\])}]\s?/gi

const DIGITS: Readonly<Record<string, string>> = { O: '0', o: '0', I: '1', l: '1', '|': '1' }

/** Joins spaced letters; null: there are none. */
function withoutSpacing(before: Reading): Reading | null {
  let after = before
  for (const pattern of SPACED) {
    const edits = separatorsIn(after.text, pattern)
    if (edits.length > 0) after = rewrite(after, edits)
  }
  if (after === before) return null
  after = rewrite(after, separatorsIn(after.text, PAIR))
  const gaps = [...after.text.matchAll(GAP)]
  return rewrite(
    after,
    gaps.map(({ 0: gap, index }) => ({ start: index, end: index + gap.length, text: ' ' })),
  )
}

function separatorsIn(text: string, pattern: RegExp): Edit[] {
  const edits: Edit[] = []
  for (const { 0: run, 1: separator, index } of text.matchAll(pattern)) {
    const { length } = separator!
    // Starts at the second character, because the first may look like the separator.
    for (let at = run.indexOf(separator!, 1); at !== -1; at = run.indexOf(separator!, at + length + 1)) {
      edits.push({ start: index + at, end: index + at + length, text: '' })
    }
  }
  return edits
}

function letterDigitsIn(text: string): Edit[] {
  const edits: Edit[] = []
  for (const { 0: run, index } of text.matchAll(NUMBERLIKE)) {
    const digits = run.match(/\d/g)?.length ?? 0
    const letters = [...run.matchAll(/[OoIl|]/g)]
    if (letters.length === 0 || digits < letters.length) continue
    for (const { 0: letter, index: at } of letters) {
      edits.push({ start: index + at, end: index + at + 1, text: DIGITS[letter]! })
    }
  }
  return edits
}

const spelledOutIn = (text: string): Edit[] =>
  [...text.matchAll(AT_OR_DOT)].map(({ 0: all, 1: word, index }) => {
    return { start: index, end: index + all.length, text: word!.toLowerCase() === 'at' ? '@' : '.' }
  })

const HAS_TAGS = /[\u{e0020}-\u{e007e}]/u

/**
 * All distinct readings of a text, each of which the rules search: as written, without disguise, with spaced letters
 * joined, with letters in numbers as digits, and with invisible text shown.
 */
export function readingsOf(text: string): readonly Reading[] {
  if (last?.text !== text) last = { text, readings: readAll(text) }
  return last.readings
}

/** The readings of the last text, because all rules check the same text in turn. */
let last: { text: string; readings: readonly Reading[] } | null = null

function readAll(text: string): Reading[] {
  const plain = fold(text)
  const readings: Reading[] = [{ text, places: null }]
  const add = (one: Reading) => {
    if (readings.every(other => other.text !== one.text)) readings.push(one)
  }
  const addAll = (folded: Reading) => {
    const joined = withoutSpacing(folded)
    for (const reading of joined ? [folded, joined] : [folded]) {
      add(reading)
      for (const edits of [letterDigitsIn(reading.text), spelledOutIn(reading.text)]) {
        if (edits.length > 0) add(rewrite(reading, edits))
      }
    }
  }
  addAll(plain)
  if (HAS_TAGS.test(text)) addAll(fold(text, { tags: true }))
  return readings
}

/** The findings of `find` in all readings of a text, by their range in the text itself, without duplicates. */
export function findInReadings<F extends Finding>(
  text: string,
  find: (text: string, reading: Reading) => readonly F[],
): F[] {
  const found = new Map<string, F>()
  for (const reading of readingsOf(text)) {
    for (const one of find(reading.text, reading)) {
      const place = placeOf(reading, one.start, one.end)
      const key = `${one.type} ${place.start} ${place.end}`
      if (!found.has(key)) found.set(key, { ...one, ...place })
    }
  }
  return [...found.values()]
}

/** At least three letters, because every Russian text contains shorter words that look Latin. */
const WORD = /[a-z]{3,}/g

/**
 * The text without disguise, with spaced letters joined and invisible text shown, if that reveals a word that the text
 * does not contain; otherwise null. Accents do not count as disguise.
 */
export function undisguised(text: string): string | null {
  const shown = HAS_TAGS.test(text) ? [fold(text, { tags: true })] : []
  const readings = [fold(text), ...shown].map(one => (withoutSpacing(one) ?? one).text)
  const known = new Set(withoutAccents(text).match(WORD))
  const others = [...new Set(readings)].filter(one =>
    one
      .toLowerCase()
      .match(WORD)
      ?.some(word => !known.has(word)),
  )
  return others.length > 0 ? others.join('\n\n') : null
}

/** Keeps marks that belong to no letter of an alphabet, because they are a disguise. */
const withoutAccents = (text: string): string =>
  text
    .normalize('NFC')
    .replace(/[\u00c0-\u024f\u1e00-\u1eff]/g, char => char.normalize('NFD')[0]!)
    .toLowerCase()

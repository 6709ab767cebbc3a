import type { Finding } from './findings.ts'

// No digits, letters or further groups on either side: those are order numbers, versions and serials.
const NUMBER =
  /(?<![\p{L}\p{N}_]|[\p{N}\p{L}][-.\u2010-\u2013/])\d{3}([-\u2010-\u2013 .]?)\d{2}\1\d{4}(?![\p{L}\p{N}_]|[-.\u2010-\u2013/]\p{N})/gu

const FILLER = '(?:numbers?|nos?\\b|num\\b|is|was|are|of|the|my|his|her|their|your|and|[#:="\'.,(*`\\[\\]-])'
/** The placeholder that `filterOutput` leaves holds the word as well, and says nothing of what comes after it. */
const BEFORE = new RegExp(`\\b(?:ssns?(?! removed\\])|social[ _-]?security)\\b(?:[ _]*${FILLER})*\\s*$`, 'i')
const AFTER =
  /^["')\s,]*(?:is |as )?(?:[([]?(?:my |his |her |the |their |your |an? )?)(?:ssn\b(?! removed\])|social security\b)/i
const REACH = 48

/** Never given out: area 000, 666 and 900 to 999, group 00, serial 0000. */
const isPossible = (digits: string): boolean =>
  !/^(?:000|666|9)/.test(digits) && digits.slice(3, 5) !== '00' && digits.slice(5) !== '0000'

/** US social security numbers. Without dashes, nine digits are one only where the text says so. */
export function findSsns(text: string): Finding<'ssn'>[] {
  const found: Finding<'ssn'>[] = []
  for (const match of text.matchAll(NUMBER)) {
    const start = match.index
    const end = start + match[0].length
    if (!isPossible(match[0].replace(/\D/g, ''))) continue
    const isDashed = /[-\u2010-\u2013]/.test(match[1]!)
    if (isDashed || isNamed(text, start, end)) found.push({ type: 'ssn', start, end })
  }
  return found
}

const isNamed = (text: string, start: number, end: number): boolean =>
  BEFORE.test(text.slice(Math.max(0, start - REACH), start)) || AFTER.test(text.slice(end, end + REACH))

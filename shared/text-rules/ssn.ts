import type { Finding } from './findings.ts'
import { fold } from './fold.ts'

// No adjacent digits, letters or further groups, as in order numbers, versions and serial numbers.
const NUMBER =
  /(?<![\p{L}\p{N}_]|\p{N}[-.\u2010-\u2013/])\d{3}( ?[-\u2010-\u2013] ?|--|[ ./_\u00b7]?)\d{2}\1\d{4}(?![\p{L}\p{N}_]|[-.\u2010-\u2013/]\p{N})/gu

const FILLER = '(?:numbers?|nos?\\b|num\\b|is|was|are|of|the|my|his|her|their|your|and|[#:="\'.,(*`\\[\\]-])'
/** Excludes the placeholder of `filterOutput`, `[ssn removed]`. */
const BEFORE = new RegExp(
  `(?<![A-Za-z0-9])(?:ssns?(?! removed\\])|social[ _-]?security)(?![A-Za-z0-9])(?:[ _]*${FILLER})*\\s*$`,
  'i',
)
const AFTER =
  /^["')\s,]*(?:is |as )?(?:[([]?(?:my |his |her |the |their |your |an? )?)(?:ssn\b(?! removed\])|social security\b)/i
const REACH = 48

/** Never assigned: areas 000, 666 and 900 to 999, group 00, serial 0000. */
const isPossible = (digits: string): boolean =>
  !/^(?:000|666|9)/.test(digits) && digits.slice(3, 5) !== '00' && digits.slice(5) !== '0000'

/** Finds US social security numbers. Nine digits without dashes count only if the text names them so. */
export function findSsns(text: string): Finding<'ssn'>[] {
  const found: Finding<'ssn'>[] = []
  for (const match of text.matchAll(NUMBER)) {
    const start = match.index
    const end = start + match[0].length
    if (!isPossible(match[0].replace(/\D/g, ''))) continue
    const isDashed = /[-\u2010-\u2013]/.test(match[1]!)
    // `ABC-123-45-6789` is an order number; `SSN-123-45-6789` is named.
    const isPart = /\p{L}[-./\u2010-\u2013]$/u.test(text.slice(Math.max(0, start - 2), start))
    if ((isDashed && !isPart) || isNamed(text, start, end)) found.push({ type: 'ssn', start, end })
  }
  return found
}

const isNamed = (text: string, start: number, end: number): boolean =>
  BEFORE.test(text.slice(Math.max(0, start - REACH), start)) || AFTER.test(text.slice(end, end + REACH))

/** Whether the name of a field marks its value as a social security number: `{"customer_ssn": "123456789"}`. */
export const isSsnField = (key: string, value: string): boolean => isPlainSsnField(fold(key).text, fold(value).text)

const isPlainSsnField = (key: string, value: string): boolean =>
  /^\s*\d{3}([- .]?)\d{2}\1\d{4}\s*$/.test(value) &&
  isPossible(value.replace(/\D/g, '')) &&
  (/(?<![a-z0-9])ssn(?! removed\]|[a-z0-9])|social[ _-]?security/i.test(key) || /[a-z]SSN|[a-z]Ssn/.test(key))

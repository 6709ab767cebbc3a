import type { Finding } from './findings.ts'

/** Issuers by the range of the first digits, and their number lengths. Visa no longer uses 13 digits. */
const ISSUERS: readonly { from: string; to: string; lengths: readonly number[] }[] = [
  { from: '4', to: '4', lengths: [16, 19] }, // Visa
  { from: '51', to: '55', lengths: [16] }, // Mastercard
  { from: '2221', to: '2720', lengths: [16] }, // Mastercard
  { from: '34', to: '34', lengths: [15] }, // American Express
  { from: '37', to: '37', lengths: [15] }, // American Express
  { from: '6011', to: '6011', lengths: [16, 19] }, // Discover
  { from: '644', to: '649', lengths: [16, 19] }, // Discover
  { from: '65', to: '65', lengths: [16, 19] }, // Discover
  { from: '300', to: '305', lengths: [14] }, // Diners Club
  { from: '3095', to: '3095', lengths: [14] }, // Diners Club
  { from: '36', to: '36', lengths: [14] }, // Diners Club
  { from: '38', to: '39', lengths: [14] }, // Diners Club
  { from: '3528', to: '3589', lengths: [16, 19] }, // JCB
  { from: '62', to: '62', lengths: [16, 17, 18, 19] }, // UnionPay
  { from: '5018', to: '5018', lengths: [16, 18, 19] }, // Maestro
  { from: '5020', to: '5020', lengths: [16, 18, 19] }, // Maestro
  { from: '5038', to: '5038', lengths: [16, 18, 19] }, // Maestro
  { from: '5893', to: '5893', lengths: [16, 18, 19] }, // Maestro
  { from: '6304', to: '6304', lengths: [16, 18, 19] }, // Maestro
  { from: '6759', to: '6763', lengths: [16, 18, 19] }, // Maestro
  { from: '2200', to: '2204', lengths: [16] }, // Mir
]

/** Groups in which cards print their digits. Among other numbers, only these count. */
const GROUPINGS = ['4-4-4-4', '4-4-4-4-3', '4-6-5', '4-6-4'].map(one => one.split('-').map(Number))

const MAX_DIGITS = 19
/** Single spaces and dashes of any width. */
const SEPARATOR = '[ \\u00a0\\u2007\\u2009\\u202f\\u2010-\\u2014\\-]'
const RUN = new RegExp(`\\d+(?:${SEPARATOR}\\d+)*`, 'g')

/** The same groups, separated by another mark, which is the same everywhere. */
const MARKED =
  /(?<![\p{L}\p{N}_]|\p{N}[.,])\d{4}( ?[-.\u00b7\u2022*/_] ?|--)\d{4,6}\1\d{4,5}(?:\1\d{4}(?:\1\d{3})?)?(?![\p{L}\p{N}_]|[.,]\p{N})/gu

/** Luhn's algorithm (ISO/IEC 7812): the last digit is the check digit. */
export function passesLuhn(digits: string): boolean {
  let sum = 0
  for (let i = 0; i < digits.length; i++) {
    const digit = Number(digits[digits.length - 1 - i])
    const doubled = i % 2 === 1 ? digit * 2 : digit
    sum += doubled > 9 ? doubled - 9 : doubled
  }
  return sum % 10 === 0
}

const isCard = (digits: string): boolean =>
  ISSUERS.some(({ from, to, lengths }) => {
    const start = digits.slice(0, from.length)
    return lengths.includes(digits.length) && start >= from && start <= to
  }) &&
  passesLuhn(digits) &&
  !/^\d0+$/.test(digits)

/** Finds payment cards: prefix and length of a known issuer, and a correct check digit. */
export function findCards(text: string): Finding<'card'>[] {
  const found: Finding<'card'>[] = []
  for (const { 0: run, index } of text.matchAll(RUN)) {
    if (run.length < 14) continue
    const groups = [...run.matchAll(/\d+/g)].map(one => ({ digits: one[0], start: index + one.index }))
    const before = text.slice(Math.max(0, index - 2), index)
    const after = text.slice(index + run.length, index + run.length + 2)
    const first = isPartBefore(before, run) ? 1 : 0
    const last = isPartAfter(after, run) ? groups.length - 1 : groups.length
    findInRun(groups, first, last, !AMID.before.test(before) && !AMID.after.test(after), found)
  }
  for (const { 0: run, 1: mark, index } of text.matchAll(MARKED)) {
    if (mark === '-') continue
    const groups = run.split(mark!)
    const isGrouped = GROUPINGS.some(
      one => one.length === groups.length && one.every((n, k) => groups[k]!.length === n),
    )
    if (isGrouped && isCard(groups.join(''))) found.push({ type: 'card', start: index, end: index + run.length })
  }
  return found
}

/**
 * Whether the first digits are part of a word, an identifier or a decimal number. `ord-4111-…` is an identifier,
 * `Visa-4111 …` is not. The n of an escaped `\n` is not a letter.
 */
const isPartBefore = (before: string, run: string): boolean =>
  /(?<!\\)\p{L}$|\p{N}$|[\p{L}\p{N}_]\.$/u.test(before) || (/[\p{L}\p{N}_]-$/u.test(before) && !/^\d+\s/.test(run))

const isPartAfter = (after: string, run: string): boolean =>
  /^[\p{L}\p{N}]|^\.[\p{L}\p{N}_]/u.test(after) || (/^-[\p{L}\p{N}_]/u.test(after) && !/\s\d+$/.test(run))

/** Marks of delimited data, amounts, times and dates. Among these, only a card in its own groups counts. */
const AMID = { before: /_$|\p{N},$/u, after: /^_|^[,/:]\p{N}/u }

type Group = { digits: string; start: number }

function findInRun(
  groups: readonly Group[],
  first: number,
  last: number,
  isAlone: boolean,
  found: Finding<'card'>[],
): void {
  // Digits without neighbours may be grouped in any way.
  if (isAlone && first === 0 && last === groups.length && groups.length <= MAX_DIGITS) {
    if (isCard(groups.map(one => one.digits).join(''))) {
      found.push(spanning(groups, 0, groups.length))
      return
    }
  }
  for (let i = first; i < last; ) {
    const count = cardAt(groups, i, last)
    if (count > 0) found.push(spanning(groups, i, i + count))
    i += Math.max(1, count)
  }
}

/**
 * The number of groups from `i` that form a card; 0: none. The longest match wins, so that no digits of the card
 * remain.
 */
function cardAt(groups: readonly Group[], i: number, last: number): number {
  const { length } = groups[i]!.digits
  if (length !== 4 && length < 14) return 0
  const fitting = GROUPINGS.filter(
    lengths => i + lengths.length <= last && lengths.every((length, k) => groups[i + k]!.digits.length === length),
  ).map(lengths => lengths.length)
  const counts = [1, ...fitting].sort((a, b) => b - a)
  return (
    counts.find(count =>
      isCard(
        groups
          .slice(i, i + count)
          .map(one => one.digits)
          .join(''),
      ),
    ) ?? 0
  )
}

function spanning(groups: readonly Group[], from: number, to: number): Finding<'card'> {
  const end = groups[to - 1]!
  return { type: 'card', start: groups[from]!.start, end: end.start + end.digits.length }
}

import {
  type CountryCode,
  findPhoneNumbersInText,
  getCountryCallingCode,
  isSupportedCountry,
} from 'libphonenumber-js/max'
import type { Finding } from './findings.ts'

// Not within a word, an id, a decimal number, an amount or a path.
const NOT_WITHIN = '(?<![\\p{L}\\p{N}_]|[\\p{L}\\p{N}][-.,/:]|[#$€£@])'
const NOT_BEFORE = '(?![\\p{L}\\p{N}_%@]|[-.,/:]\\p{N})'
const SPACING = '[ \\u00a0().\\u2010-\\u2013/-]'

/** International form. The library decides where a number ends and whether it is valid. */
const INTERNATIONAL = new RegExp(`(?<![\\p{L}\\p{N}_+])[+\\uff0b] ?\\(?\\d(?:${SPACING}{0,3}\\d){6,17}`, 'gu')
/** National form in countries with code 1: always 3-3-4. Other groups are ISBNs, part numbers and dates. */
const NORTH_AMERICAN = new RegExp(
  `${NOT_WITHIN}(?:1[ .-])?(?:\\(\\d{3}\\)[ \\u00a0-]?|\\d{3}([- .\\u00a0\\u2010-\\u2013]|\\) ?))\\d{3}[- .\\u00a0\\u2010-\\u2013]\\d{4}${NOT_BEFORE}`,
  'gu',
)
/** National form elsewhere: in groups, and nearly everywhere with a leading 0. */
const NATIONAL = new RegExp(`${NOT_WITHIN}\\(?\\d{2,5}\\)?(?:[ \\u00a0/-]{1,3}\\d{1,8}){1,5}${NOT_BEFORE}`, 'gu')
/** In one piece. Ids and timestamps look the same, so the text must name it a phone number. */
const BARE = new RegExp(`${NOT_WITHIN}\\d{7,13}${NOT_BEFORE}`, 'gu')
const NAMED =
  /(?:\b(?:phone|tel|telephone|mobile|cell|cellphone|fax|whatsapp|sms|hotline|handy|telefon)|\b(?:call|text|dial|ring)(?: (?:me|us|him|her|them))?)(?:[ _-]?(?:number|no|nr|#))?["']?(?: (?:is|at|on|us at))?[\s.:="'#]*$/i
const DATE = /^(?:(?:19|20)\d\d([-/ ])[01]?\d\1[0-3]?\d|[0-3]?\d([-/ ])[0-3]?\d\2(?:19|20)\d\d)(?: [0-2]?\d)?$/
const ISBN = /isbn(?:-1[03])?:?\s*$/i

/**
 * Finds phone numbers that are valid by the numbering plan of their country. `country`: of numbers without a country
 * code.
 */
export function findPhones(text: string, country: CountryCode): Finding<'phone'>[] {
  const isNanp = isSupportedCountry(country) && getCountryCallingCode(country) === '1'
  const found = findIn(text, INTERNATIONAL, country)
  if (isNanp) found.push(...findIn(text, NORTH_AMERICAN, country))
  else
    found.push(...findIn(text, NATIONAL, country, match => !DATE.test(match[0]) && !ISBN.test(before(text, match, 9))))
  found.push(...findIn(text, BARE, country, match => NAMED.test(before(text, match, 40))))
  return found
}

const before = (text: string, match: RegExpExecArray, reach: number) =>
  text.slice(Math.max(0, match.index - reach), match.index)

function findIn(
  text: string,
  pattern: RegExp,
  country: CountryCode,
  isWanted: (match: RegExpExecArray) => boolean = () => true,
): Finding<'phone'>[] {
  const found: Finding<'phone'>[] = []
  for (const match of text.matchAll(pattern)) {
    // The library's own search takes seconds for a megabyte of digits, so it only gets candidates.
    if (!isWanted(match)) continue
    const number = findPhoneNumbersInText(match[0], { defaultCountry: country })[0]
    if (number) {
      found.push({ type: 'phone', start: match.index + number.startsAt, end: match.index + number.endsAt })
    }
  }
  return found
}

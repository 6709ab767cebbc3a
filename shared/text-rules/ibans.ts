import { lookalikeLetterOf } from './characters.ts'
import type { Finding } from './findings.ts'

/** Length of an IBAN by country: the SWIFT registry, and countries that use IBANs without being listed there. */
const LENGTHS: Readonly<Record<string, number>> = Object.fromEntries(
  (
    'AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 ' +
    'FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 ' +
    'LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 ' +
    'RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30 ' +
    'AO25 BF28 BJ28 CF27 CG27 CI28 CM27 CV25 DZ26 GA27 GQ27 GW25 IR26 KM27 MA28 MG27 ML28 MZ25 NE28 SN28 TD27 TG28'
  )
    .split(' ')
    .map(one => [one.slice(0, 2), Number(one.slice(2))]),
)

const START = /(?<![\p{L}\p{N}_])\p{L}{2}\d{2}/gu
const isSeparator = (char: string | undefined) => char === ' ' || char === '-' || char === '\u00a0'
/** Other separators must be the same between all groups. */
const MARK = / ?[-.\u00b7\u2022*/_] ?|--/y

const GROUP = 4

/** ISO 13616: with the first four characters moved to the end and letters as numbers, the value is 1 modulo 97. */
export function passesMod97(iban: string): boolean {
  let rest = 0
  for (const char of iban.slice(4) + iban.slice(0, 4)) {
    const value = Number.parseInt(char, 36)
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97
  }
  return rest === 1
}

/**
 * Finds IBANs by the length of the country and the checksum; in one piece or in groups with single separators. Letters
 * may be lookalikes of any script, also within one word: country, length and checksum exclude other text.
 * @param isAscii whether the character at a position is ASCII in the original. The case of others does not count,
 * because lookalikes mix cases.
 */
export function findIbans(text: string, isAscii: (at: number) => boolean = () => true): Finding<'iban'>[] {
  const found: Finding<'iban'>[] = []
  for (const { 0: head, index } of text.matchAll(START)) {
    const length = LENGTHS[Array.from(head, asciiOf).slice(0, 2).join('')]
    if (length === undefined) continue
    const read = readIban(text, index, length, isAscii)
    // A hash or base64 text of the same length mixes cases.
    if (read === null || (/[a-z]/.test(read.cased) && /[A-Z]/.test(read.cased))) continue
    if (passesMod97(read.iban)) found.push({ type: 'iban', start: index, end: read.end })
  }
  return found
}

/** The letter or digit that a character shows, in upper case; '': none. */
function asciiOf(char: string): string {
  if (/^[A-Za-z0-9]$/.test(char)) return char.toUpperCase()
  const letter = char > '~' ? lookalikeLetterOf(char.codePointAt(0)!) : null
  return letter !== null && /^[A-Za-z]$/.test(letter) ? letter.toUpperCase() : ''
}

/**
 * Reads `length` letters and digits from `start`. `cased`: the characters whose case counts.
 * @returns null: there are fewer, or more follow directly
 */
function readIban(
  text: string,
  start: number,
  length: number,
  isAscii: (at: number) => boolean,
): { iban: string; cased: string; end: number } | null {
  let at = start
  let iban = ''
  let cased = ''
  MARK.lastIndex =
    start +
    Array.from(text.slice(start, start + 2 * GROUP))
      .slice(0, GROUP)
      .join('').length
  const mark = MARK.exec(text)?.[0]
  while (iban.length < length) {
    if (mark && iban !== '' && text.startsWith(mark, at)) at += mark.length
    else if (isSeparator(text[at])) at++
    const codePoint = text.codePointAt(at)
    if (codePoint === undefined) return null
    const char = String.fromCodePoint(codePoint)
    const ascii = asciiOf(char)
    if (ascii === '') return null
    iban += ascii
    if (char <= '~' && isAscii(at)) cased += char
    at += char.length
  }
  return /^[\p{L}\p{N}_]/u.test(text.slice(at, at + 2)) ? null : { iban, cased, end: at }
}

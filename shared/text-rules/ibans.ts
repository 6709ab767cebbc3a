import type { Finding } from './findings.ts'

/** How long an IBAN is in each country of the SWIFT registry (and in those that use one without being in it). */
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

const START = /(?<![\p{L}\p{N}_])[A-Za-z]{2}\d{2}/gu
const isSeparator = (char: string | undefined) => char === ' ' || char === '-' || char === '\u00a0'

/** ISO 13616: the first four characters at the end, letters as numbers, and the whole is 1 modulo 97. */
export function passesMod97(iban: string): boolean {
  let rest = 0
  for (const char of iban.slice(4) + iban.slice(0, 4)) {
    const value = Number.parseInt(char, 36)
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97
  }
  return rest === 1
}

/** Bank accounts by IBAN: the country's length, a right checksum; in one piece or in groups with single spaces or dashes. */
export function findIbans(text: string): Finding<'iban'>[] {
  const found: Finding<'iban'>[] = []
  for (const { 0: head, index } of text.matchAll(START)) {
    const length = LENGTHS[head.slice(0, 2).toUpperCase()]
    if (length === undefined) continue
    const end = endOf(text, index, length)
    if (end === null) continue
    const iban = text.slice(index, end).replace(/[^A-Za-z0-9]/g, '')
    // A hash or a base64 text may be as long, but mixes cases.
    if (iban !== iban.toUpperCase() && iban !== iban.toLowerCase()) continue
    if (passesMod97(iban)) found.push({ type: 'iban', start: index, end })
  }
  return found
}

/** Where `length` letters and digits from `start` on end; null if they are not there, or if more follow at once. */
function endOf(text: string, start: number, length: number): number | null {
  let at = start
  for (let count = 0; count < length; count++) {
    if (isSeparator(text[at])) at++
    if (!/^[A-Za-z0-9]$/.test(text[at] ?? '')) return null
    at++
  }
  return /^[\p{L}\p{N}_]/u.test(text.slice(at, at + 2)) ? null : at
}

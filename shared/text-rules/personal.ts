import type { CountryCode } from 'libphonenumber-js/max'
import { findCards } from './cards.ts'
import { findEmails } from './emails.ts'
import { type Finding, withoutOverlaps } from './findings.ts'
import { findIbans } from './ibans.ts'
import { findPhones } from './phones.ts'
import { findInReadings } from './readings.ts'
import { findSsns } from './ssn.ts'

/** The most specific type first. A number with a correct checksum is hardly anything else. */
export const PERSONAL_TYPES = ['iban', 'card', 'ssn', 'email', 'phone'] as const
export type PersonalType = (typeof PERSONAL_TYPES)[number]

type Finder = (text: string, country: CountryCode, isAscii: (at: number) => boolean) => Finding<PersonalType>[]

const FINDERS: Record<PersonalType, Finder> = {
  iban: (text, _, isAscii) => findIbans(text, isAscii),
  card: findCards,
  ssn: findSsns,
  email: findEmails,
  phone: findPhones,
}

/**
 * Finds numbers and addresses of persons, also disguised ones, from left to right, without overlaps.
 * @param country country of phone numbers without a country code
 * @param types types to search for
 */
export function findPersonal(
  text: string,
  { country = 'US', types = PERSONAL_TYPES }: { country?: CountryCode; types?: readonly PersonalType[] } = {},
): Finding<PersonalType>[] {
  return withoutOverlaps(
    findInReadings(text, (reading, { places }) => {
      const isAscii = (at: number) => text.charCodeAt(places?.starts[at] ?? at) < 0x80
      return types.flatMap(type => FINDERS[type](reading, country, isAscii))
    }),
    PERSONAL_TYPES,
  )
}

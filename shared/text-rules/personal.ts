import type { CountryCode } from 'libphonenumber-js/max'
import { findCards } from './cards.ts'
import { findEmails } from './emails.ts'
import { type Finding, withoutOverlaps } from './findings.ts'
import { findIbans } from './ibans.ts'
import { findPhones } from './phones.ts'
import { findSsns } from './ssn.ts'

/** The more specific first: what passes a checksum is hardly by chance something else. */
export const PERSONAL_TYPES = ['iban', 'card', 'ssn', 'email', 'phone'] as const
export type PersonalType = (typeof PERSONAL_TYPES)[number]

const FINDERS: Record<PersonalType, (text: string, country: CountryCode) => Finding<PersonalType>[]> = {
  iban: findIbans,
  card: findCards,
  ssn: findSsns,
  email: findEmails,
  phone: findPhones,
}

/**
 * Numbers and addresses that belong to a person, from left to right, none overlapping.
 * @param country of phone numbers without a country code
 * @param types only these are looked for
 */
export function findPersonal(
  text: string,
  { country = 'US', types = PERSONAL_TYPES }: { country?: CountryCode; types?: readonly PersonalType[] } = {},
): Finding<PersonalType>[] {
  return withoutOverlaps(
    types.flatMap(type => FINDERS[type](text, country)),
    PERSONAL_TYPES,
  )
}

import { findPersonal } from '#shared/text-rules/personal.ts'
import { findProfanity } from '#shared/text-rules/profanity.ts'
import { spamSignals } from '#shared/text-rules/spam.ts'
import { type Scores, scoresOf } from './categories.ts'

/** What rules alone see in a text, and in what. */
export type RuleFindings = { scores: Scores; reasons: string[] }

/** Numbers that identify somebody and pass their checksum are not a matter of opinion; an address may be a shop's. */
const PERSONAL = { card: 1, ssn: 1, iban: 1, phone: 0.6, email: 0.5 } as const

export function findByRules(text: string): RuleFindings {
  const spam = spamSignals(text)
  const personal = [...new Set(findPersonal(text).map(one => one.type))]
  const rude = findProfanity(text).length > 0
  const found: Partial<Scores> = {
    spam: spam.score,
    'personal-information': Math.max(0, ...personal.map(type => PERSONAL[type])),
    profanity: rude ? 1 : 0,
  }
  return {
    scores: scoresOf(category => found[category] ?? 0),
    reasons: [
      ...spam.reasons.map(reason => `spam: ${reason}`),
      ...personal.map(type => `it holds a ${type}`),
      ...(rude ? ['it holds profanity'] : []),
    ],
  }
}

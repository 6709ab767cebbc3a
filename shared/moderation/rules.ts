import { findPersonal, type PersonalType } from '#shared/text-rules/personal.ts'
import { findProfanity } from '#shared/text-rules/profanity.ts'
import { spamPhrases, spamSignals } from '#shared/text-rules/spam.ts'
import { type Scores, scoresOf } from './categories.ts'
import { type Join, joinsOf } from './joins.ts'

/** Scores by rules alone, with reasons. */
export type RuleFindings = { scores: Scores; reasons: string[] }

/** A personal number with a correct checksum is certain; an address or phone number may belong to a shop. */
const PERSONAL = { card: 1, ssn: 1, iban: 1, phone: 0.6, email: 0.5 } as const

/** From this score on, a text is spam by itself, and the joined passages are not checked for spam. */
const REVIEWED_SPAM = 0.5

type TextFindings = { spam: { score: number; reasons: string[] }; personal: Set<PersonalType>; rude: boolean }

/** The findings of rules in each text of a request, and in the passages where texts meet. */
export function findByRules(texts: readonly string[]): RuleFindings[] {
  const found = texts.map(text => ({
    spam: spamSignals(text),
    personal: new Set(findPersonal(text).map(one => one.type)),
    rude: findProfanity(text).length > 0,
  }))
  const all = found.map(one => ({ ...one, personal: new Set(one.personal) }))
  for (const join of joinsOf(texts)) addDivided(texts, join, found, all)
  return all.map(findingsOf)
}

/**
 * Adds findings that are divided between texts and in none of them alone. A card in one text must not affect a harmless
 * text next to it.
 */
function addDivided(
  texts: readonly string[],
  join: Join,
  alone: readonly TextFindings[],
  all: readonly TextFindings[],
): void {
  const dividedBetween = (
    { start, end }: { start: number; end: number },
    isAlone: (found: TextFindings) => boolean,
  ) => {
    const parts = join.partsOf(start, end)
    return parts.length > 1 && !parts.some(n => isAlone(alone[n]!)) ? parts : []
  }
  for (const one of findPersonal(join.text)) {
    for (const n of dividedBetween(one, found => found.personal.has(one.type))) all[n]!.personal.add(one.type)
  }
  for (const one of findProfanity(join.text)) {
    // “I push” and “it works” are separate words at the boundary, “fu” and “ck” are one.
    if (/[\p{L}\p{N}]$/u.test(join.text.slice(Math.max(0, one.start - 2), one.start))) continue
    for (const n of dividedBetween(one, found => found.rude)) all[n]!.rude = true
  }
  if (alone.some(one => one.spam.score >= REVIEWED_SPAM)) return
  const known = new Set(texts.flatMap(text => [...spamPhrases(text)]))
  if ([...spamPhrases(join.text)].every(phrase => known.has(phrase))) return
  const spam = spamSignals(join.text)
  for (const one of all) if (spam.score > one.spam.score) one.spam = spam
}

function findingsOf({ spam, personal, rude }: TextFindings): RuleFindings {
  const scores: Partial<Scores> = {
    spam: spam.score,
    'personal-information': Math.max(0, ...[...personal].map(type => PERSONAL[type])),
    profanity: rude ? 1 : 0,
  }
  return {
    scores: scoresOf(category => scores[category] ?? 0),
    reasons: [
      ...spam.reasons.map(reason => `spam: ${reason}`),
      ...[...personal].map(type => `it contains a ${type}`),
      ...(rude ? ['it contains profanity'] : []),
    ],
  }
}

import { type Category, type Scores, scoresOf } from './categories.ts'

/** Models that answer `safe` or `unsafe` with hazard codes, in a chat template of their own, whatever they are told. */
export const isLlamaGuard = (model: string): boolean => /llama-?guard/i.test(model)

/** The hazards of MLCommons' taxonomy, S1 to S13, and S14 of Llama Guard 3. */
const HAZARDS: Record<string, Category> = {
  S1: 'illicit/violent',
  S2: 'illicit',
  S3: 'sexual',
  S4: 'sexual/minors',
  S5: 'harassment',
  S6: 'illicit',
  S7: 'personal-information',
  S8: 'illicit',
  S9: 'illicit/violent',
  S10: 'hate',
  S11: 'self-harm',
  S12: 'sexual',
  S13: 'misinformation',
  S14: 'illicit',
}

/** `whole` false: it is unsafe, and the scores do not say of all that it said why. */
export type GuardVerdict = { whole: boolean; scores: Scores }

/**
 * Reads an answer. `unsafe` is one whatever follows: not to know a hazard is no reason to ask for another opinion.
 * @returns null: that is no verdict
 */
export function readLlamaGuard(text: string): GuardVerdict | null {
  const answer = text.trim()
  if (answer === 'safe') return { whole: true, scores: scoresOf(() => 0) }
  if (!/^unsafe\b/i.test(answer)) return null
  const codes = answer
    .slice('unsafe'.length)
    .split(/[\s,]+/)
    .filter(code => code !== '')
  const named = new Set(codes.flatMap(code => (Object.hasOwn(HAZARDS, code) ? [HAZARDS[code]!] : [])))
  return {
    whole: codes.length > 0 && codes.every(code => Object.hasOwn(HAZARDS, code)),
    scores: scoresOf(category => (named.has(category) ? 1 : 0)),
  }
}

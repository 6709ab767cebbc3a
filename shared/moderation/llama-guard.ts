import { type Category, type Scores, scoresOf } from './categories.ts'

/** Models that answer `safe`, or `unsafe` with hazard codes, in their own chat template, whatever the prompt. */
export const isLlamaGuard = (model: string): boolean => /llama-?guard/i.test(model)

/** Hazards S1 to S13 of the MLCommons taxonomy, and S14 of Llama Guard 3. */
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

/** `whole` false: the text is unsafe, but the scores do not cover every stated hazard. */
export type GuardVerdict = { whole: boolean; scores: Scores }

/**
 * Reads an answer. `unsafe` is a verdict whatever follows: an unknown hazard must not lead to another call.
 * @returns null: not a verdict
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

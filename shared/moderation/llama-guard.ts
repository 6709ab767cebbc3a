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

/** @returns null: that is no verdict */
export function readLlamaGuard(text: string): Scores | null {
  const answer = text.trim()
  if (answer === 'safe') return scoresOf(() => 0)
  const codes = /^unsafe\s*\n\s*(S\d{1,2}(?:\s*,\s*S\d{1,2})*)$/.exec(answer)?.[1]?.split(/\s*,\s*/)
  if (!codes?.every(code => Object.hasOwn(HAZARDS, code))) return null
  const named = new Set(codes.map(code => HAZARDS[code]))
  return scoresOf(category => (named.has(category) ? 1 : 0))
}

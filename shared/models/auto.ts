/** The choice of a model by `options.model: "auto"`: rules as data, in English, the language of most prompts. */

export type Tier = 'cheap' | 'strong'

/** `because`: the rule that decided, in a few words. */
export type AutoChoice = { tier: Tier; because: string }

/** A longer prompt (in UTF-16 units) contains a document, not only a question. */
export const LONG_PROMPT = 2000

/** Words and phrases that request a thorough answer, in upper or lower case. A space matches any white space. */
export const DEMANDING: readonly string[] = [
  'analyze',
  'analyse',
  'analysis',
  'compare',
  'critique',
  'debug',
  'derive',
  'evaluate',
  'explain in detail',
  'in depth',
  'in detail',
  'in-depth',
  'justify',
  'optimize',
  'optimise',
  'pros and cons',
  'prove',
  'reason about',
  'refactor',
  'step by step',
  'step-by-step',
  'thorough',
  'thoroughly',
  'trade-off',
  'trade-offs',
]

// An alternation of fixed texts: linear, and for at most LONG_PROMPT characters. `\b` would treat é as the end of a
// word.
const demanding = new RegExp(
  `(?<![\\p{L}\\p{N}_])(?:${DEMANDING.map(words => words.replaceAll(' ', '\\s{1,9}')).join('|')})(?![\\p{L}\\p{N}_])`,
  'iu',
)

/** @param text the complete prompt of the task */
export function autoTier(text: string): AutoChoice {
  if (text.length > LONG_PROMPT) return { tier: 'strong', because: `longer than ${LONG_PROMPT} characters` }
  const found = demanding.exec(text)?.[0].toLowerCase().replaceAll(/\s+/g, ' ')
  return found ? { tier: 'strong', because: `says "${found}"` } : { tier: 'cheap', because: 'short and simple' }
}

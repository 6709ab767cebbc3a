/** Which model `options.model: "auto"` asks for: rules as data, in English, the language of most prompts. */

export type Tier = 'cheap' | 'strong'

/** `because` says in a few words which rule decided. */
export type AutoChoice = { tier: Tier; because: string }

/** More characters (UTF-16 units) than this are a document to work on, not a question. */
export const LONG_PROMPT = 2000

/** Whole words, in either case, that ask for more than an answer off the cuff. A space stands for any white space. */
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

// An alternation of fixed texts: linear, and for at most LONG_PROMPT characters. `\b` would take é for a word's end.
const demanding = new RegExp(
  `(?<![\\p{L}\\p{N}_])(?:${DEMANDING.map(words => words.replaceAll(' ', '\\s{1,9}')).join('|')})(?![\\p{L}\\p{N}_])`,
  'iu',
)

/** @param text everything that the model is to read of the task's own */
export function autoTier(text: string): AutoChoice {
  if (text.length > LONG_PROMPT) return { tier: 'strong', because: `longer than ${LONG_PROMPT} characters` }
  const found = demanding.exec(text)?.[0].toLowerCase().replaceAll(/\s+/g, ' ')
  return found ? { tier: 'strong', because: `says "${found}"` } : { tier: 'cheap', because: 'short and simple' }
}

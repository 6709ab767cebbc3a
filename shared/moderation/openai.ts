import { CATEGORIES, type Category, OPENAI_CATEGORIES } from './categories.ts'
import type { CombinedVerdict, Verdict } from './verdict.ts'

/** OpenAI's moderation format: https://platform.openai.com/docs/api-reference/moderations */

/** Whether a request names no model, or one of OpenAI's moderation models. Sluice then uses its default model. */
export const usesDefaultModel = (model: unknown): boolean =>
  model === undefined || model === null || (typeof model === 'string' && /^(omni|text)-moderation/.test(model))

/** Maximum length of a text. */
const MAX_TEXT = 50_000

export type ModerationInput = { text: string } | { texts: string[] }

/**
 * Converts `input` to that of the kind `moderate`: a string; an array of strings, with one result each; or an array of
 * parts, which form one text with one result. `wrong`: an error message about `param`.
 */
export function moderationInput(input: unknown): { input: ModerationInput } | { param: string; wrong: string } {
  if (typeof input === 'string') return { input: { texts: [input] } }
  if (!Array.isArray(input) || input.length === 0)
    return { param: 'input', wrong: "'input' must be a string, or a non-empty array of strings or of text parts." }
  if (input.every(one => typeof one === 'string')) return { input: { texts: input } }
  const texts: string[] = []
  for (const [i, part] of input.entries()) {
    const path = `input[${i}]`
    if (typeof part !== 'object' || part === null)
      return {
        param: path,
        wrong: `'${path}' must be a part such as {"type": "text", "text": "…"}, as the others are.`,
      }
    const { type, text, ...more } = part as { type?: unknown; text?: unknown }
    if (type === 'image_url')
      return { param: path, wrong: `'${path}' is an image. Only text is moderated here: send text parts alone.` }
    if (type !== 'text') return { param: `${path}.type`, wrong: `'${path}.type' must be "text".` }
    if (typeof text !== 'string') return { param: `${path}.text`, wrong: `'${path}.text' must be a string.` }
    const [unknown] = Object.keys(more)
    if (unknown !== undefined)
      return { param: path, wrong: `'${path}' has the unknown field ${JSON.stringify(unknown.slice(0, 100))}.` }
    texts.push(text)
  }
  const text = oneText(texts)
  if (text.length <= MAX_TEXT) return { input: { text } }
  const most = Math.floor(MAX_TEXT / 2) - texts.length
  return { param: 'input', wrong: `The parts of 'input' must have at most ${most} characters in total.` }
}

/** The parts on separate lines and, because a word may be divided between them, once more without separators. */
const oneText = (texts: string[]): string =>
  texts.length === 1 ? texts[0]! : `${texts.join('\n')}\n\n${texts.join('')}`

/** True if a text is flagged without a category: the verdict is uncertain, or a person decided. */
const OTHER = 'other'

/** `flagged` is true if and only if a category is. Categories that OpenAI lacks are present only if they are true. */
function resultJson({ decision, categories, scores }: Verdict) {
  const flagged = decision !== 'allow'
  const own = CATEGORIES.slice(OPENAI_CATEGORIES.length)
  const violated = flagged ? CATEGORIES.filter(name => categories[name]) : []
  const shown = [...OPENAI_CATEGORIES, ...own.filter(name => violated.includes(name))]
  const unnamed = flagged && violated.length === 0
  const each = <T>(of: (category: Category) => T, other: T): Record<string, T> =>
    Object.fromEntries([
      ...shown.map(category => [category, of(category)] as const),
      ...(unnamed ? [[OTHER, other] as const] : []),
    ])
  return {
    flagged,
    categories: each(category => violated.includes(category), true),
    category_scores: each(category => scores[category] ?? 0, 1),
    category_applied_input_types: each(() => ['text'], ['text']),
  }
}

/** The body of an answer. `id`: 32 hex digits. */
export const moderationJson = (id: string, model: string | null, verdict: CombinedVerdict) => ({
  id: `modr_${id}`,
  model: model ?? 'rules',
  results: (verdict.results ?? [verdict]).map(resultJson),
})

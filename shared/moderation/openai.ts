import type { Verdict } from '#shared/jobs/moderate.ts'
import { OPENAI_CATEGORIES } from './categories.ts'

/** Moderation as OpenAI's API has it: https://platform.openai.com/docs/api-reference/moderations */

/** A model of OpenAI's that only moderates, or none: here whichever model would be asked anyway judges. */
export const isUnnamed = (model: unknown): boolean =>
  model === undefined || model === null || (typeof model === 'string' && /^(omni|text)-moderation/.test(model))

/** The texts of its `input`: a text, or a list of texts or text parts. null: it is something else, such as an image. */
export function textsOf(input: unknown): string[] | null {
  const texts = (Array.isArray(input) ? input : [input]).map(one => {
    const { type, text } = (typeof one === 'object' && one !== null ? one : { type: 'text', text: one }) as {
      type: unknown
      text: unknown
    }
    return type === 'text' && typeof text === 'string' ? text : null
  })
  return texts.includes(null) ? null : (texts as string[])
}

const each = <T>(of: (category: (typeof OPENAI_CATEGORIES)[number]) => T) =>
  Object.fromEntries(OPENAI_CATEGORIES.map(category => [category, of(category)]))

const resultJson = ({ decision, categories, scores }: Verdict) => ({
  flagged: decision !== 'allow',
  categories: each(category => categories[category] ?? false),
  category_scores: each(category => scores[category] ?? 0),
  category_applied_input_types: each(() => ['text']),
})

/** The body of an answer. `id`: 32 hex digits. */
export const moderationJson = (id: string, model: string | null, verdict: Verdict & { results?: Verdict[] }) => ({
  id: `modr_${id}`,
  model: model ?? 'rules',
  results: (verdict.results ?? [verdict]).map(resultJson),
})

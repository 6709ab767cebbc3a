import { type Static, Type } from 'typebox'
import { CATEGORIES, type Category, type Scores } from './categories.ts'

const score = Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()])
const threshold = Type.Object(
  {
    review: { ...score, description: 'From this score on a person is to decide; null: never.' },
    block: { ...score, description: 'From this score on it is blocked; null: never.' },
  },
  { additionalProperties: false },
)

/** What a policy says; what it does not say is as in `DEFAULT_POLICY`. */
export const policyRules = Type.Object(
  {
    thresholds: Type.Optional(
      Type.Object(
        Object.fromEntries(CATEGORIES.map(category => [category, Type.Optional(threshold)])) as Record<
          Category,
          ReturnType<typeof Type.Optional<typeof threshold>>
        >,
        { additionalProperties: false },
      ),
    ),
    min_confidence: Type.Optional(
      Type.Number({ minimum: 0, maximum: 1, description: 'A verdict that is less sure of itself is reviewed.' }),
    ),
  },
  { additionalProperties: false },
)
export type PolicyRules = Static<typeof policyRules>

/** A policy as a task is judged by it, and which version of it that was. */
export type Policy = { name: string; version: number; rules: PolicyRules }

const USUAL = { review: 0.5, block: 0.8 }
const STRICT = { review: 0.2, block: 0.5 }

/** Harm to children or to oneself is looked at sooner; rude words alone are nobody's harm unless the operator says so. */
const DEFAULT_THRESHOLDS: Partial<Record<Category, typeof USUAL | { review: null; block: null }>> = {
  'sexual/minors': STRICT,
  'self-harm/instructions': STRICT,
  profanity: { review: null, block: null },
}
export const DEFAULT_MIN_CONFIDENCE = 0.5

export const DEFAULT_POLICY: Policy = { name: 'default', version: 0, rules: {} }

export const thresholdOf = (category: Category, { rules }: Policy): { review: number | null; block: number | null } =>
  rules.thresholds?.[category] ?? DEFAULT_THRESHOLDS[category] ?? USUAL

export type Decision = 'allow' | 'review' | 'block'

export type Judgement = { decision: Decision; violations: Category[]; categories: Record<Category, boolean> }

const reaches = (score: number, least: number | null): boolean => least !== null && score >= least

/** What a policy makes of scores. `confidence`: how sure whoever gave them is, 0 to 1. */
export function judge(scores: Scores, confidence: number, policy: Policy): Judgement {
  const of = CATEGORIES.map(category => {
    const { review, block } = thresholdOf(category, policy)
    const blocked = reaches(scores[category], block)
    return { category, blocked, violated: blocked || reaches(scores[category], review) }
  })
  const violations = of.filter(one => one.violated).map(one => one.category)
  const unsure = confidence < (policy.rules.min_confidence ?? DEFAULT_MIN_CONFIDENCE)
  return {
    decision: of.some(one => one.blocked) ? 'block' : violations.length > 0 || unsure ? 'review' : 'allow',
    violations,
    categories: Object.fromEntries(of.map(one => [one.category, one.violated])) as Record<Category, boolean>,
  }
}

import { type Static, Type } from 'typebox'
import { CATEGORIES, type Category, type Scores } from './categories.ts'

const score = Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()])
const threshold = Type.Object(
  {
    review: { ...score, description: 'Minimum score for a human review; null: never.' },
    block: { ...score, description: 'Minimum score for blocking; null: never.' },
  },
  { additionalProperties: false },
)

/** The rules of a policy. Values that it omits are those of `DEFAULT_POLICY`. */
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
      Type.Number({ minimum: 0, maximum: 1, description: 'A verdict with a lower confidence needs a human review.' }),
    ),
  },
  { additionalProperties: false },
)
export type PolicyRules = Static<typeof policyRules>

/** A version of a policy, as stored with a task. */
export type Policy = { name: string; version: number; rules: PolicyRules }

const USUAL = { review: 0.5, block: 0.8 }
const STRICT = { review: 0.2, block: 0.5 }

/** Harm to children and self-harm need review sooner. Profanity alone is allowed unless a policy says otherwise. */
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

export type PolicyDecision = { decision: Decision; violations: Category[]; categories: Record<Category, boolean> }

const reaches = (score: number, least: number | null): boolean => least !== null && score >= least

/** Turns scores into a decision. `confidence`: confidence in the scores, 0 to 1. */
export function applyPolicy(scores: Scores, confidence: number, policy: Policy): PolicyDecision {
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

import { CATEGORIES, type Category, type Scores, scoresOf } from './categories.ts'
import { applyPolicy, type Decision, type Policy } from './policy.ts'
import type { RuleFindings } from './rules.ts'

/** The result of moderating one text. */
export type Verdict = {
  safe: boolean
  confidence: number
  violations: Category[]
  reason: string
  decision: Decision
  categories: Partial<Record<Category, boolean>>
  scores: Partial<Scores>
}

/** The result of moderating several texts: the worst verdict, with `results` for each text. */
export type CombinedVerdict = Verdict & { results?: Verdict[] }

/**
 * Combines a model's scores with those of the rules, the higher of each, so that a text cannot talk the model out of a
 * finding.
 */
export function toVerdict(
  model: { scores: Scores; confidence: number; reason: string },
  rules: RuleFindings,
  policy: Policy,
): Verdict {
  const scores = scoresOf(category => Math.max(model.scores[category], rules.scores[category]))
  const { decision, violations, categories } = applyPolicy(scores, model.confidence, policy)
  const reason = [model.reason, ...rules.reasons].join('; ')
  return { safe: decision === 'allow', confidence: model.confidence, violations, reason, decision, categories, scores }
}

/** The verdict by rules alone, which are certain of their findings. */
export const ruleVerdict = ({ scores, reasons }: RuleFindings, policy: Policy): Verdict => {
  const judged = applyPolicy(scores, 1, policy)
  return { safe: judged.decision === 'allow', confidence: 1, reason: reasons.join('; '), scores, ...judged }
}

export const atLeastReview = (verdict: Verdict): Verdict =>
  verdict.decision === 'allow' ? { ...verdict, safe: false, decision: 'review' } : verdict

const WORST_FIRST: Decision[] = ['block', 'review', 'allow']

/** One verdict for several texts: the worst value of each field. @param results at least one */
export function combineVerdicts(results: Verdict[]): CombinedVerdict {
  if (results.length === 1) return results[0]!
  const decision = WORST_FIRST.find(one => results.some(each => each.decision === one))!
  return {
    safe: decision === 'allow',
    confidence: Math.min(...results.map(one => one.confidence)),
    violations: [...new Set(results.flatMap(one => one.violations))],
    reason: results.find(one => one.decision === decision)!.reason,
    decision,
    categories: Object.fromEntries(CATEGORIES.map(name => [name, results.some(one => one.categories[name] === true)])),
    scores: scoresOf(name => Math.max(...results.map(one => one.scores[name] ?? 0))),
    results,
  }
}

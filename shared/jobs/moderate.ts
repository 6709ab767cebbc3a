import { type TSchema, Type } from 'typebox'
import { CATEGORIES, type Category, type Scores, scoresOf } from '#shared/moderation/categories.ts'
import { isLlamaGuard, readLlamaGuard } from '#shared/moderation/llama-guard.ts'
import { DEFAULT_POLICY, type Policy } from '#shared/moderation/policy.ts'
import { findByRules, type RuleFindings } from '#shared/moderation/rules.ts'
import { atLeastReview, combineVerdicts, ruleVerdict, toVerdict, type Verdict } from '#shared/moderation/verdict.ts'
import { type CheckOutcome, defineJob } from './define.ts'
import * as earlier from './earlier-prompts.ts'
import { readJson } from './json-answer.ts'
import { matchLabel } from './labels.ts'
import { llamaGuardPrompt, moderationPrompt } from './moderate-prompt.ts'

const MAX_TEXT = 50_000
const MAX_TEXTS = 20
const MAX_ALL = 200_000
/** Maximum characters of a model's reason. */
const MAX_REASON = 2000

const text = Type.String({ minLength: 1, maxLength: MAX_TEXT, pattern: '\\S' })

const input = Type.Object(
  {
    text: Type.Optional({ ...text, description: 'The text to moderate. Either this or `texts`.' }),
    texts: Type.Optional(Type.Array(text, { minItems: 1, maxItems: MAX_TEXTS })),
    context: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 5000,
        description: 'Context of the text, such as the post that it answers.',
      }),
    ),
    policy: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 100,
        description: 'Name of the policy to apply. Default: the default policy.',
      }),
    ),
  },
  { additionalProperties: false },
)

const unit = Type.Number({ minimum: 0, maximum: 1 })
const verdictsWith = (scores: TSchema, texts: number) =>
  Type.Object(
    {
      verdicts: Type.Array(
        Type.Object(
          {
            scores,
            confidence: unit,
            reason: Type.String({ minLength: 1, maxLength: MAX_REASON }),
          },
          { additionalProperties: false },
        ),
        { minItems: texts, maxItems: texts },
      ),
    },
    { additionalProperties: false },
  )
/** The schema of the request: a score for every category of every text. */
const answerSchema = (texts: number) =>
  verdictsWith(
    Type.Object(Object.fromEntries(CATEGORIES.map(category => [category, unit])), { additionalProperties: false }),
    texts,
  ) as unknown as Record<string, unknown>
type Answer = { verdicts: { scores: Scores; confidence: number; reason: string }[] }

/** The schema of the check: models without constrained decoding vary the names of categories, such as `Self_Harm`. */
const lenientSchema = (texts: number) => verdictsWith(Type.Record(Type.String(), unit), texts)
type LenientAnswer = { verdicts: { scores: Record<string, number>; confidence: number; reason: string }[] }

/** The scores by category. Each category must occur once. @returns a string: the error */
function scoresByCategory(scores: Record<string, number>): Scores | string {
  const found = new Map<Category, number>()
  for (const [name, score] of Object.entries(scores)) {
    const category = matchLabel(name, CATEGORIES)
    if (category === null) return `contain an unknown category; the categories are ${CATEGORIES.join(', ')}`
    if (found.has(category)) return `contain "${category}" twice`
    found.set(category, score)
  }
  const missing = CATEGORIES.filter(category => !found.has(category))
  return missing.length > 0 ? `lack ${missing.join(', ')}` : scoresOf(category => found.get(category)!)
}

const verdictFields = {
  safe: Type.Boolean({ description: 'True only if the decision is `allow`.' }),
  confidence: unit,
  violations: Type.Array(Type.String()),
  reason: Type.String(),
  decision: Type.Enum(['allow', 'block', 'review']),
  categories: Type.Record(Type.String(), Type.Boolean()),
  scores: Type.Record(Type.String(), Type.Number()),
}
const result = Type.Object({
  ...verdictFields,
  results: Type.Optional(Type.Array(Type.Object(verdictFields), { description: 'The verdict of each of `texts`.' })),
})

/** The stored input, with the policy as it was when the task was accepted. */
type Input = { text?: string; texts?: string[]; context?: string; policy?: unknown }

const textsOf = ({ text, texts }: Input): string[] => texts ?? [text!]
const policyOf = ({ policy }: Input): Policy => (policy as Policy | undefined) ?? DEFAULT_POLICY

/**
 * The findings of the rules, computed once per input. `answerByRules` and `check` get the same input object, and the
 * rules take most of the CPU time of a long text.
 */
const findings = new WeakMap<Input, RuleFindings[]>()

function findingsOf(input: Input): RuleFindings[] {
  const known = findings.get(input) ?? findByRules(textsOf(input))
  findings.set(input, known)
  return known
}

/** Whether a text contains the verdict. A model that describes such a text may have quoted it. */
const containsVerdict = (text: string, verdict: string): boolean => withoutSpace(text).includes(withoutSpace(verdict))
const withoutSpace = (text: string): string => text.replace(/\s+/g, '')

function checkLlamaGuard(text: string, texts: string[], rules: RuleFindings[], policy: Policy): CheckOutcome {
  const guard = texts.length === 1 ? readLlamaGuard(text) : null
  if (!guard) return { ok: false, reason: 'the answer is neither "safe" nor "unsafe" with hazards' }
  const reason = `Llama Guard: ${text.trim().replace(/\s+/g, ' ').slice(0, MAX_REASON).toWellFormed()}`
  const judged = toVerdict({ scores: guard.scores, confidence: guard.whole ? 1 : 0, reason }, rules[0]!, policy)
  // A policy can allow known hazards, but not unknown ones.
  return { ok: true, result: guard.whole ? judged : atLeastReview(judged) }
}

export const moderate = defineJob({
  kind: 'moderate',
  title: 'Moderate text',
  description:
    'Decides whether texts are safe to show: `allow`, `block` or `review`, with scores by category. Rules decide first, then a model. Without a complete, valid verdict the decision is `review`, never `allow`, however the task ends.',
  queue: 'moderate',
  input,
  result,
  example: { input: { text: 'What a lovely photograph. Where was it taken?' } },
  exampleResult: {
    safe: true,
    confidence: 0.98,
    violations: [],
    reason: 'A friendly question about a photograph.',
    decision: 'allow',
    categories: Object.fromEntries(CATEGORIES.map(name => [name, false])),
    scores: scoresOf(() => 0),
  },
  exampleAnswer: JSON.stringify({
    verdicts: [{ scores: scoresOf(() => 0), confidence: 0.98, reason: 'A friendly question about a photograph.' }],
  } satisfies Answer),
  promptVersion: '3',
  maxTokens: 4096,
  cache: { ttlSeconds: 600, staleSeconds: 0 },
  fallback: 'none',
  deadlineSeconds: 5,
  priority: 'interactive',
  resultWithoutVerdict: {
    safe: false,
    confidence: 0,
    violations: [],
    reason: 'No verdict: moderation did not complete. The error states the cause.',
    decision: 'review',
    categories: {},
    scores: {},
  } satisfies Verdict,

  validate({ text, texts }) {
    if ((text === undefined) === (texts === undefined)) {
      return { field: '/input/text', message: 'or `texts` must be given, but not both' }
    }
    const all = (texts ?? []).reduce((sum, one) => sum + one.length, 0)
    return all > MAX_ALL
      ? { field: '/input/texts', message: `must have at most ${MAX_ALL} characters in total`, tooLarge: true }
      : null
  },

  async prepare({ policy: name, ...input }, context) {
    if (name === undefined) return { input }
    const policy = await context.policy(name)
    if (policy) return { input: { ...input, policy } }
    const message = `names an unknown policy: "${name}"; GET /api/v1/policies lists the policies`
    return { fault: { field: '/input/policy', message } }
  },

  // A repeated request needs its own human review.
  isCacheable: result => (result as Verdict).decision !== 'review',

  /** Rules alone can only block: they are certain of their findings, but not that there are no others. */
  answerByRules(input) {
    const results = findingsOf(input).map(one => ruleVerdict(one, policyOf(input)))
    return results.every(one => one.decision === 'block') ? combineVerdicts(results) : null
  },

  prompts: {
    ...earlier.moderate(textsOf, answerSchema),
    3: input => moderationPrompt(textsOf(input), input.context, answerSchema(textsOf(input).length)),
  },

  // Llama Guard moderates one conversation and needs its own prompt.
  promptFor: (input, model) =>
    isLlamaGuard(model) && textsOf(input).length === 1 ? llamaGuardPrompt(textsOf(input)[0]!) : null,

  check(text, input, model) {
    const texts = textsOf(input)
    const policy = policyOf(input)
    const rules = findingsOf(input)
    if (isLlamaGuard(model)) return checkLlamaGuard(text, texts, rules, policy)
    const answer = readJson<LenientAnswer>(text, lenientSchema(texts.length), { strict: true })
    if (!answer.ok) return answer
    if (texts.some(one => containsVerdict(one, answer.source)))
      return { ok: false, reason: 'the answer repeats a verdict that a text contains; write your own' }
    const results: Verdict[] = []
    for (const [n, one] of answer.value.verdicts.entries()) {
      const scores = scoresByCategory(one.scores)
      if (typeof scores === 'string') return { ok: false, reason: `the scores of verdict ${n + 1} ${scores}` }
      results.push(toVerdict({ ...one, scores }, rules[n]!, policy))
    }
    return { ok: true, result: combineVerdicts(results) }
  },

  // Nothing can replace a verdict.
  rules: () => null,

  text: result => (result as Verdict).reason,
})

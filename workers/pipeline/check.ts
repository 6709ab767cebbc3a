import type { JobKind } from '#shared/jobs/define.ts'
import { clean } from '#shared/text.ts'
import type { CallAnswer } from '#workers/providers/define.ts'

export type Verdict = { ok: true; result: unknown } | { ok: false; reason: string }

/** Whether an answer is one: not refused, not cut off where that matters, and of the shape that the kind promises. */
export function check(kind: JobKind, input: unknown, answer: CallAnswer): Verdict {
  if (answer.stop === 'refusal') return { ok: false, reason: 'the model refused' }
  const verdict = kind.check(clean(answer.text), input)
  if (verdict.ok || answer.stop !== 'max_tokens') return verdict
  return { ok: false, reason: `${verdict.reason} (it was cut off at max_tokens)` }
}

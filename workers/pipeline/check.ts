import type { ErrorCode } from '#shared/errors.ts'
import type { JobKind, Tools } from '#shared/jobs/define.ts'
import { clean } from '#shared/text.ts'
import { filterOutput } from '#shared/text-rules/filter.ts'
import type { CallAnswer, EmbedAnswer } from '#workers/providers/define.ts'

/**
 * `filtered`: how many of what was taken out, by type. `again`: the same model may do better when it is told the reason.
 * `fatal`: nobody can, and the task fails with this.
 */
export type Verdict =
  | { ok: true; result: unknown; filtered: Record<string, number> | null }
  | { ok: false; reason: string; again: boolean; fatal?: ErrorCode }

/**
 * Whether an answer is one: not refused, not cut off where that matters, and of the shape that the kind promises; then
 * without what must not get out.
 */
export async function check(
  kind: JobKind,
  { input, model, filter, tools }: { input: unknown; model: string; filter: boolean; tools?: Tools },
  answer: CallAnswer | EmbedAnswer,
): Promise<Verdict> {
  if (kind.operation === 'embed') {
    const verdict = kind.check('vectors' in answer ? answer.vectors : [], input)
    // Nothing is taken out of vectors: they hold no text, and what looked like some would be chance.
    return verdict.ok ? { ...verdict, filtered: null } : { ...verdict, again: false }
  }
  if ('vectors' in answer) throw new Error(`${kind.kind} was answered in vectors`)
  if (answer.stop === 'refusal') return { ok: false, reason: 'the model refused', again: false }
  const verdict = await kind.check(clean(answer.text), input, model, tools)
  if (!verdict.ok) {
    if (verdict.fatal) return { ok: false, reason: verdict.reason, again: false, fatal: verdict.fatal }
    const cut = answer.stop === 'max_tokens'
    return { ok: false, reason: `${verdict.reason}${cut ? ' (it was cut off at max_tokens)' : ''}`, again: !cut }
  }
  if (!filter) return { ok: true, result: verdict.result, filtered: null }
  const counts: Record<string, number> = {}
  const result = kind.filter(verdict.result, value => {
    const { value: kept, filtered } = filterOutput(value)
    for (const [type, count] of Object.entries(filtered ?? {})) counts[type] = (counts[type] ?? 0) + count
    return kept as typeof value
  })
  return { ok: true, result, filtered: Object.keys(counts).length > 0 ? counts : null }
}

import type { ErrorCode } from '#shared/errors.ts'
import type { ChatKind, CheckTools, JobKind } from '#shared/jobs/define.ts'
import { isRefusal } from '#shared/models/finish-reasons.ts'
import type { CallAnswer, EmbedAnswer } from '#shared/providers/define.ts'
import { textOfParts } from '#shared/requests/answer.ts'
import { clean } from '#shared/text.ts'
import { filterOutput } from '#shared/text-rules/filter.ts'

/**
 * `filtered`: replacements of the output filter, counted by type. `again`: the same model may repair the answer if it gets
 * the reason. `cut`: only a higher output limit can help. `fatal`: no answer can pass; the task fails with this code.
 */
export type CheckedAnswer =
  | { ok: true; result: unknown; filtered: Record<string, number> | null }
  | { ok: false; reason: string; again: boolean; cut?: true; fatal?: ErrorCode }

export type CheckContext = {
  input: unknown
  model: string
  filter: boolean
  tools?: CheckTools
  /** A refusal is an answer, even if the task has an output schema. */
  keepsRefusals?: boolean
}

/** Characters of a refusal that an error quotes. */
const MAX_QUOTE = 300

/** Checks that an answer is not refused, not truncated where that matters, and of the kind's shape; then filters it. */
export async function check(
  kind: JobKind,
  { input, model, filter, tools, keepsRefusals = false }: CheckContext,
  answer: CallAnswer | EmbedAnswer,
): Promise<CheckedAnswer> {
  if (kind.operation === 'embed') {
    const verdict = kind.check('vectors' in answer ? answer.vectors : [], input)
    // Vectors hold no text to filter.
    return verdict.ok ? { ...verdict, filtered: null } : { ...verdict, again: false }
  }
  if ('vectors' in answer) throw new Error(`${kind.kind} was answered with vectors`)
  const whole = kind.wholeAnswer(answer, input)
  if (whole !== null) return filtered(kind, whole, filter)
  const text = clean(textOfParts(answer.parts))
  if (isRefusal(answer.finishReason)) {
    const result = keepsRefusals ? { text } : kind.refused(text, input)
    return result === null ? refusal(text) : filtered(kind, result, filter)
  }
  const cut = answer.finishReason === 'length'
  const verdict = await kind.check(text, input, model, tools)
  if (!verdict.ok) {
    if (verdict.fatal) return { ok: false, reason: verdict.reason, again: false, fatal: verdict.fatal }
    if (!cut) return { ok: false, reason: verdict.reason, again: true }
    const reason = text.trim() === '' ? 'the model wrote no answer, only reasoning' : verdict.reason
    return { ok: false, reason, again: false, cut: true }
  }
  // The missing rest may have said the opposite.
  if (cut && kind.resultWithoutVerdict !== null)
    return { ok: false, reason: 'the verdict is not whole', again: false, cut: true }
  return filtered(kind, verdict.result, filter)
}

function refusal(text: string): CheckedAnswer {
  const words = text.trim().slice(0, MAX_QUOTE).toWellFormed()
  const reason = words === '' ? 'The model refused to answer.' : `The model refused to answer: ${words}`
  return { ok: false, reason, again: false, fatal: 'model_refused' }
}

function filtered(kind: ChatKind, value: unknown, filter: boolean): CheckedAnswer {
  if (!filter) return { ok: true, result: value, filtered: null }
  const counts: Record<string, number> = {}
  const result = kind.filter(value, part => {
    const { value: kept, filtered } = filterOutput(part)
    for (const [type, count] of Object.entries(filtered ?? {})) counts[type] = (counts[type] ?? 0) + count
    return kept as typeof part
  })
  return { ok: true, result, filtered: Object.keys(counts).length > 0 ? counts : null }
}

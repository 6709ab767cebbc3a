import { canonicalJson } from '#shared/json/canonical.ts'
import type { ChatKind, EmbedKind } from './define.ts'

type Checker = Pick<ChatKind, 'operation' | 'text' | 'check'> | Pick<EmbedKind, 'operation' | 'vectors' | 'check'>

/**
 * Whether a stored result, such as a precomputed one, is one that the kind could have created from a model's answer to
 * `input`.
 */
export async function resultFits(job: Checker, input: unknown, result: unknown): Promise<boolean> {
  if (result === null || result === undefined) return false
  const wanted = canonicalJson(result)
  if (job.operation === 'embed') {
    const vectors = job.vectors(result)
    const checked = vectors && job.check(vectors, input)
    return checked?.ok === true && canonicalJson(checked.result) === wanted
  }
  // Models write plain text or JSON, depending on the kind; its check accepts only the right form.
  for (const text of [job.text(result), JSON.stringify(result)]) {
    const checked = await job.check(text, input, '')
    if (checked.ok && canonicalJson(checked.result) === wanted) return true
  }
  return false
}

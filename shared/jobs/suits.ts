import { canonicalJson } from '#shared/canonical.ts'
import type { ChatKind, EmbedKind } from './define.ts'

type Checking = Pick<ChatKind, 'operation' | 'text' | 'check'> | Pick<EmbedKind, 'operation' | 'vectors' | 'check'>

/** Whether a result that nobody's model wrote is what the kind could have made of some model's answer to `input`. */
export async function suits(job: Checking, input: unknown, result: unknown): Promise<boolean> {
  if (result === null || result === undefined) return false
  const wanted = canonicalJson(result)
  if (job.operation === 'embed') {
    const vectors = job.vectors(result)
    const checked = vectors && job.check(vectors, input)
    return checked?.ok === true && canonicalJson(checked.result) === wanted
  }
  // A model writes a result as plain text or as JSON; only the kind knows which, and its check tells them apart.
  for (const text of [job.text(result), JSON.stringify(result)]) {
    const checked = await job.check(text, input, '')
    if (checked.ok && canonicalJson(checked.result) === wanted) return true
  }
  return false
}

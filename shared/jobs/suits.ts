import { canonicalJson } from '#shared/canonical.ts'
import type { JobKind } from './define.ts'

/** Whether a result that nobody's model wrote is what the kind could have made of some model's answer to `input`. */
export async function suits(job: Pick<JobKind, 'text' | 'check'>, input: unknown, result: unknown): Promise<boolean> {
  if (result === null || result === undefined) return false
  const wanted = canonicalJson(result)
  // A model writes a result as plain text or as JSON; only the kind knows which, and its check tells them apart.
  for (const text of [job.text(result), JSON.stringify(result)]) {
    const checked = await job.check(text, input, '')
    if (checked.ok && canonicalJson(checked.result) === wanted) return true
  }
  return false
}

import { canonicalJson } from '#shared/canonical.ts'
import type { JobKind } from './define.ts'

/** Whether a result that nobody's model wrote is what the kind could have made of some model's answer to `input`. */
export function suits(job: Pick<JobKind, 'text' | 'check'>, input: unknown, result: unknown): boolean {
  if (result === null || result === undefined) return false
  const wanted = canonicalJson(result)
  // A model writes a result as plain text or as JSON; only the kind knows which, and its check tells them apart.
  return [job.text(result), JSON.stringify(result)].some(text => {
    const checked = job.check(text, input, '')
    return checked.ok && canonicalJson(checked.result) === wanted
  })
}

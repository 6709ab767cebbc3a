import type { JobKind } from './define.ts'
import * as kinds from './kinds.ts'

const registered: JobKind[] = Object.values(kinds)

export const jobs: ReadonlyMap<string, JobKind> = register(registered)

/** `resultWithoutVerdict` by kind, for the kinds that declare one. */
export const resultsWithoutVerdict: ReadonlyMap<string, unknown> = new Map(
  registered.flatMap(job => (job.resultWithoutVerdict === null ? [] : [[job.kind, job.resultWithoutVerdict] as const])),
)

function register(kinds: JobKind[]): Map<string, JobKind> {
  const byKind = new Map<string, JobKind>()
  for (const job of kinds) {
    if (byKind.has(job.kind)) throw new Error(`job kind "${job.kind}" is registered twice`)
    byKind.set(job.kind, job)
  }
  return byKind
}

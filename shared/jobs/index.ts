import type { JobKind } from './define.ts'
import { generate } from './generate.ts'

/** Every job kind, one line each. */
const registered: JobKind[] = [generate]

export const jobs: ReadonlyMap<string, JobKind> = register(registered)

function register(kinds: JobKind[]): Map<string, JobKind> {
  const byKind = new Map<string, JobKind>()
  for (const job of kinds) {
    if (byKind.has(job.kind)) throw new Error(`job kind "${job.kind}" is registered twice`)
    byKind.set(job.kind, job)
  }
  return byKind
}

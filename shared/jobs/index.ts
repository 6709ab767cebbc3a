import type { JobKind } from './define.ts'
import * as kinds from './kinds.ts'

const registered: JobKind[] = Object.values(kinds)

export const jobs: ReadonlyMap<string, JobKind> = register(registered)

/** What tasks of those kinds have for a result that must never be taken for a good one when they end without. */
export const noVerdicts: ReadonlyMap<string, unknown> = new Map(
  registered.flatMap(job => (job.noVerdict === null ? [] : [[job.kind, job.noVerdict] as const])),
)

function register(kinds: JobKind[]): Map<string, JobKind> {
  const byKind = new Map<string, JobKind>()
  for (const job of kinds) {
    if (byKind.has(job.kind)) throw new Error(`job kind "${job.kind}" is registered twice`)
    byKind.set(job.kind, job)
  }
  return byKind
}

import { ask } from './ask.ts'
import { blogOutline } from './blog-outline.ts'
import { blogTopics } from './blog-topics.ts'
import { classify } from './classify.ts'
import type { JobKind } from './define.ts'
import { embed } from './embed.ts'
import { generate } from './generate.ts'
import { moderate } from './moderate.ts'
import { query } from './query.ts'
import { summarize } from './summarize.ts'
import { translate } from './translate.ts'

/** Every job kind, one line each. */
const registered: JobKind[] = [
  generate,
  moderate,
  classify,
  summarize,
  translate,
  ask,
  query,
  blogTopics,
  blogOutline,
  embed,
]

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

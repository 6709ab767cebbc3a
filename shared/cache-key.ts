import { createHash } from 'node:crypto'
import { canonicalJson } from './canonical.ts'
import type { JobKind } from './jobs/define.ts'
import type { TaskOptions } from './jobs/options.ts'
import { promptVersionOf } from './jobs/prompt.ts'

/** All that an answer depends on. */
export type CacheRequest = {
  kind: string
  promptVersion: string
  policyVersion?: string | undefined
  /** As the client asked, not what was chosen: a hit needs no routing. */
  routing: { provider?: string | undefined; model?: string | undefined }
  /** Those that change the answer. */
  options: Record<string, unknown>
  input: unknown
  /** The tenant: no key is ever given an answer to another. */
  apiKeyId: string
}

/** SHA-256 of the canonical request: equal for equal requests, in whatever order their fields came. */
export const cacheKey = (request: CacheRequest): Buffer =>
  createHash('sha256')
    .update(
      canonicalJson([
        request.kind,
        request.promptVersion,
        request.policyVersion ?? null,
        request.routing,
        request.options,
        request.input,
        request.apiKeyId,
      ]),
    )
    .digest()

/** Those that say how a task is run. Whatever is not named here separates answers, so that a new option cannot mix them. */
const IMMATERIAL: ReadonlySet<string> = new Set<keyof TaskOptions>([
  'priority',
  'deadline_seconds',
  'stream',
  'cache',
  'fallback',
  'on_budget',
  'webhook_url',
  // What the user got is named for itself, as is the version.
  'user_id',
  'prompt_version',
])

/** @param task.variant what it got of an experiment, whose variants are given no answers of each other
 * @returns the key under which a task's answer is remembered; null: it neither uses nor feeds the cache */
export function taskCacheKey(
  job: Pick<JobKind, 'kind' | 'promptVersion' | 'maxTokens' | 'cache' | 'momentary'>,
  task: {
    input: unknown
    options: TaskOptions
    apiKeyId: string
    policyVersion?: string | undefined
    variant?: string | undefined
  },
): Buffer | null {
  const { provider, model, ...others } = task.options
  if (job.cache === null || others.cache === 'off' || job.momentary(task.input)) return null
  return cacheKey({
    ...task,
    kind: job.kind,
    promptVersion: promptVersionOf(job, others),
    routing: { provider, model },
    options: {
      max_tokens: job.maxTokens,
      ...Object.fromEntries(Object.entries(others).filter(([name]) => !IMMATERIAL.has(name))),
      ...(task.variant !== undefined && { variant: task.variant }),
    },
  })
}

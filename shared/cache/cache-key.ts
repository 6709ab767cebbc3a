import { createHash } from 'node:crypto'
import type { JobKind } from '#shared/jobs/define.ts'
import type { TaskOptions } from '#shared/jobs/options.ts'
import { promptVersionOf } from '#shared/jobs/prompt.ts'
import { canonicalJson } from '#shared/json/canonical.ts'

/** Everything that an answer depends on. */
export type CacheRequest = {
  kind: string
  promptVersion: string
  policyVersion?: string | undefined
  /** As requested, not as routed: a hit needs no routing. */
  routing: { provider?: string | undefined; model?: string | undefined }
  /** The options that change the answer. */
  options: Record<string, unknown>
  input: unknown
  /** The tenant: keys never share answers. */
  apiKeyId: string
}

/** SHA-256 of the canonical request: equal for equal requests, in any order of their fields. */
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

/** Options that only say how a task runs. Every other option separates answers, so that a new one cannot mix them. */
const IMMATERIAL: ReadonlySet<string> = new Set<keyof TaskOptions>([
  'priority',
  'deadline_seconds',
  'stream',
  'cache',
  'fallback',
  'on_budget',
  'webhook_url',
  // The variant and the version are separate parts of the key.
  'user_id',
  'prompt_version',
])

/**
 * @param task.variant its variant of an experiment; variants do not share answers
 * @returns the cache key of a task; null: it neither reads nor writes the cache
 */
export function taskCacheKey(
  job: Pick<JobKind, 'kind' | 'promptVersion' | 'maxTokens' | 'cache' | 'uncacheable'> & { openEnded?: boolean },
  task: {
    input: unknown
    options: TaskOptions
    apiKeyId: string
    policyVersion?: string | undefined
    variant?: string | undefined
  },
): Buffer | null {
  const { provider, model, ...others } = task.options
  if (job.cache === null || others.cache === 'off' || job.uncacheable(task.input)) return null
  return cacheKey({
    ...task,
    kind: job.kind,
    promptVersion: promptVersionOf(job, others),
    routing: { provider, model },
    options: {
      // Without max_tokens, an answer of an open-ended kind has the limit of the model that answers.
      max_tokens: job.openEnded ? 'own' : job.maxTokens,
      ...Object.fromEntries(Object.entries(others).filter(([name]) => !IMMATERIAL.has(name))),
      ...(task.variant !== undefined && { variant: task.variant }),
    },
  })
}

import { retryUnavailable } from '#shared/db/retry-unavailable.ts'
import type { RunnableTask } from '#shared/db/tasks/load.ts'
import type { Quality, Source } from '#shared/db/tasks/row.ts'
import type { JobKind } from '#shared/jobs/define.ts'
import type { StoredOptions } from '#shared/jobs/options.ts'
import { resultFits } from '#shared/jobs/result-fits.ts'
import type { FinishReason } from '#shared/models/finish-reasons.ts'
import type { Coalescing } from './coalescing.ts'

/** An answer that costs no call, as the end of its task. */
export type AnswerWithoutCall = {
  status: 'succeeded'
  source: Source
  quality: Quality
  result: unknown
  provider?: string
  model?: string
  finishReason?: FinishReason | null
}

export type AnswerWithoutCallDeps = {
  coalescing: Coalescing
  /** The operator's precomputed answer for this input. */
  precomputed(kind: string, input: unknown): Promise<{ result: unknown } | null>
}

/** @returns the answer of the rules or the cache; `follows`: another task will get the answer; null: a call is needed */
export async function answerBeforeCalls(
  { coalescing }: Pick<AnswerWithoutCallDeps, 'coalescing'>,
  task: RunnableTask,
  kind: JobKind,
): Promise<AnswerWithoutCall | 'follows' | null> {
  const certain = kind.answerByRules(task.input)
  if (certain !== null) return { status: 'succeeded', source: 'rules', quality: 'high', result: certain }
  // An experiment may select the rules engine.
  const ruled = (task.options as StoredOptions).engine === 'rules' ? kind.rules(task.input) : null
  if (ruled !== null) return { status: 'succeeded', source: 'rules', quality: 'low', result: ruled }
  const found = await coalescing.lookUp(task)
  if (found.kind === 'follows') return 'follows'
  if (found.kind === 'lead') return null
  const { result, provider, model, finishReason = null } = found.entry
  return { status: 'succeeded', source: 'cache', quality: 'high', result, provider, model, finishReason }
}

/** The best fallback that the task allows: a cached answer, a precomputed one, or the kind's rules. */
export async function fallbackAnswer(
  { coalescing, precomputed }: AnswerWithoutCallDeps,
  task: RunnableTask,
  kind: JobKind,
): Promise<AnswerWithoutCall | null> {
  const options = task.options as StoredOptions
  const level = options.fallback ?? kind.fallback
  // Only a model may give a verdict.
  if (level === 'none' || kind.resultWithoutVerdict !== null) return null
  const cached = options.cache === 'off' ? null : await coalescing.findStale(task)
  if (cached) {
    const { result, provider, model, finishReason = null } = cached.entry
    const quality = cached.fresh ? 'high' : 'medium'
    return { status: 'succeeded', source: 'cache', quality, result, provider, model, finishReason }
  }
  const written = await retryUnavailable(() => precomputed(task.kind, task.input))
  // An answer that was precomputed for a kind need not fit this input.
  if (written && (await resultFits(kind, task.input, written.result)))
    return { status: 'succeeded', source: 'precomputed', quality: 'medium', result: written.result }
  const result = level === 'rules' ? kind.rules(task.input) : null
  return result === null ? null : { status: 'succeeded', source: 'rules', quality: 'low', result }
}
